//! Consecutive integer ids, with a type for each kind of thing, so that an operator number cannot
//! index streams.
//!
//! Every id is an index into the `Vec` that owns what it names. Ids are ordered, and ties go to the
//! lowest.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The id of the thing at `index`.
            pub fn new(index: usize) -> Self {
                Self(index as u32)
            }

            /// Position in the `Vec` that owns the thing.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// An operator of a [`Graph`](crate::graph::Graph): `%3`.
    OpId = "%";
    /// A tensor of a [`Graph`](crate::graph::Graph): `t3`.
    TensorId = "t";
    /// A logical GPU, as schedules and plans count them: `gpu0`.
    GpuId = "gpu";
    /// An event of a [`Plan`](crate::plan::Plan): `e3`.
    EventId = "e";
    /// A planned region of one GPU's arena: `b3`.
    BufferId = "b";
    /// A stream of a plan, numbered over all GPUs: `s3`.
    StreamId = "s";
}
