//! Measurements on the GPUs of this machine: costs of operators, stages and transfers
//! ([`profile`]), and benchmarks of plans against one another ([`mod@bench`]).

pub mod bench;
pub mod profile;
