//! What filters decide by themselves, whatever their protocol: token buckets that connections share, and
//! answers that hold for a while. All of it is bounded, and knows the time only from its caller.

pub mod limits;
mod verdicts;

pub use verdicts::Verdicts;
