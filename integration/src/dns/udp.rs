//! Queries over UDP.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::query::{Answer, Query};
use crate::PATIENCE;

/// Receives answers.
pub type Client = crate::udp::Client<Answer>;

impl Client {
    /// Asks once, and waits for the answer; an error if something else comes.
    pub fn ask(&self, query: &Query) -> Result<Answer> {
        self.send(&query.octets()?)?;
        let answer = self.receive()?;
        ensure!(query.is_answered_by(&answer)?, "{query:?} got {:?}", answer.message());
        Ok(answer)
    }

    /// Asks all of these at once, and waits for the answers, which may come in any order: they are in that of the queries.
    /// The queries differ in their IDs.
    pub fn ask_all(&self, queries: &[Query]) -> Result<Vec<Answer>> {
        for query in queries {
            self.send(&query.octets()?)?;
        }
        let mut answers: Vec<Option<Answer>> = vec![None; queries.len()];
        let deadline = Instant::now() + PATIENCE;
        for count in 0..queries.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.receive_within(left)?;
            let answer =
                answer.with_context(|| format!("{count} of {} answers came", queries.len()))?;
            put(queries, &mut answers, answer)?;
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Puts an answer in the place of its query.
pub(super) fn put(queries: &[Query], answers: &mut [Option<Answer>], answer: Answer) -> Result<()> {
    for (query, place) in queries.iter().zip(answers) {
        if place.is_none() && query.is_answered_by(&answer)? {
            *place = Some(answer);
            return Ok(());
        }
    }
    anyhow::bail!("nobody asked for {:?}", answer.message())
}
