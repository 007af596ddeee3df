//! The point service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::shell::host::main(point_svc::SERVICE)
}
