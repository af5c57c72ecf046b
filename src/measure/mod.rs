//! Measuring on the GPUs of this machine: what operators, stages and transfers cost ([`profile`]), and plans against one another ([`mod@bench`]).

pub mod bench;
pub mod profile;
