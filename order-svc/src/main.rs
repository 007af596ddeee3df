//! The order service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::shell::host::main(order_svc::SERVICE)
}
