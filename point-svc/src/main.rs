//! The point service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::host::main(point_svc::SERVICE)
}
