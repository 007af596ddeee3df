//! The cart service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::host::main(cart_svc::SERVICE)
}
