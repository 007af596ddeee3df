//! The cart service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::shell::host::main(cart_svc::SERVICE)
}
