//! The program `hiosc`: the command line of the library of the same name.

fn main() -> std::process::ExitCode {
    hiosc::cli::main()
}
