//! The stock service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::shell::host::main(stock_svc::SERVICE)
}
