//! The turns of models that share workers: a virtual clock, in seconds of a worker, that tells whose texts are next.
//!
//! It is start-time fair queueing (Goyal, Vin and Cheng, 1996) between models. Each has an account of the seconds that
//! its batches took. The model with the lowest account has the next turn, so models that have work share the workers
//! evenly in time, whatever a token of each costs. A model that had no work begins at the clock: it saves nothing up.
//!
//! A batch is charged by estimate when it begins, and by its time when it ends. Plain data, without locks and without a
//! clock of its own. The choice between the texts of a model is left to its batch queue.

use std::time::Duration;

/// The tokens after which older measurements are replaced.
const MEAN_TOKENS: f64 = 8_192.0;

/// The accounts of the models, by their numbers.
pub struct Turns {
    /// The account of the model that had the last turn, before it was charged.
    clock: f64,
    accounts: Vec<Account>,
}

#[derive(Clone, Default)]
struct Account {
    /// The seconds that its batches took.
    used: f64,
    /// The measured seconds of a worker for a token; 0 before the first batch.
    seconds_per_token: f64,
}

/// A batch that began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Charge {
    tokens: usize,
    seconds: f64,
}

impl Turns {
    /// Creates the accounts of some models.
    pub fn new(models: usize) -> Self {
        Self { clock: 0.0, accounts: vec![Account::default(); models] }
    }

    /// The models in the order of their turns. Equal ones are in the order of their numbers.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.accounts.len()).collect();
        order.sort_by(|a, b| self.accounts[*a].used.total_cmp(&self.accounts[*b].used));
        order
    }

    /// Records that texts of a model arrived.
    pub fn arrived(&mut self, model: usize) {
        let account = &mut self.accounts[model];
        account.used = account.used.max(self.clock);
    }

    /// Charges a batch of `tokens` that begins.
    pub fn begin(&mut self, model: usize, tokens: usize) -> Charge {
        let account = &mut self.accounts[model];
        self.clock = self.clock.max(account.used);
        let charge = Charge { tokens, seconds: account.seconds_per_token * tokens as f64 };
        account.used += charge.seconds;
        charge
    }

    /// Corrects the charge of a batch by the time that it took.
    pub fn end(&mut self, model: usize, charge: Charge, took: Duration) {
        let (account, seconds) = (&mut self.accounts[model], took.as_secs_f64());
        account.used += seconds - charge.seconds;
        let measured = seconds / charge.tokens.max(1) as f64;
        account.seconds_per_token = match account.seconds_per_token {
            0.0 => measured,
            mean => mean + (charge.tokens as f64 / MEAN_TOKENS).min(0.5) * (measured - mean),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets two workers compute batches of models with these seconds per token, of those that have work at each step.
    /// Returns the seconds of each model.
    fn simulate(seconds_per_token: &[f64], steps: usize, has_work: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        let mut turns = Turns::new(seconds_per_token.len());
        let mut given = vec![0.0; seconds_per_token.len()];
        let mut running: Vec<(f64, usize, Charge)> = Vec::new();
        let mut now = 0.0;
        for step in 0..steps {
            while running.len() < 2 {
                let mut order = turns.order().into_iter();
                let Some(model) = order.find(|model| has_work(*model, step)) else { break };
                turns.arrived(model);
                let charge = turns.begin(model, 512);
                running.push((now + 512.0 * seconds_per_token[model], model, charge));
            }
            running.sort_by(|a, b| b.0.total_cmp(&a.0));
            let Some((ends, model, charge)) = running.pop() else { continue };
            now = ends;
            let took = 512.0 * seconds_per_token[model];
            turns.end(model, charge, Duration::from_secs_f64(took));
            given[model] += took;
        }
        given
    }

    #[test]
    fn models_with_work_share_the_time_evenly_whatever_a_token_costs() {
        let given = simulate(&[1e-4, 4e-3, 2e-5], 20_000, |_, _| true);
        let total: f64 = given.iter().sum();
        for seconds in &given {
            assert!((seconds / total - 1.0 / 3.0).abs() < 0.01, "{given:?}");
        }
    }

    #[test]
    fn a_model_that_had_no_work_saves_no_turns_up() {
        // The second one has work in the last tenth alone.
        let given = simulate(&[1e-3, 1e-3], 10_000, |model, step| model == 0 || step >= 9_000);
        assert!((given[1] / (512.0 * 1e-3) - 500.0).abs() < 4.0, "half of the last batches: {given:?}");
    }

    #[test]
    fn a_lone_model_has_every_turn() {
        assert_eq!(simulate(&[1e-3, 1e-3], 100, |model, _| model == 1)[0], 0.0);
    }
}
