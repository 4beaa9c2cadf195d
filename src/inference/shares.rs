//! The shares of callers: a virtual clock that tells who asked for more than its share, and who for less.
//!
//! The clock is that of fair queueing (Demers, Keshav and Shenker, 1989). It counts the tokens that each active caller
//! would have been given by now if all of them shared the model evenly. A caller has an account, which its tokens move
//! ahead. So the lead of an account over the clock is what its caller asked for beyond its share. Tokens that leave
//! the queue move the clock: each account that is ahead of it comes nearer by the same number. An account that is
//! behind the clock belongs to a caller that asked for less than its share.
//!
//! Each lane of the batch queue has such a clock for the order of its texts (start-time fair queueing; Goyal, Vin and
//! Cheng, 1996). All lanes together have another, which finds quiet callers (`batch_queue.rs`).
//!
//! Invariant: the clock never passes the account that is farthest ahead, unless somebody without an account is ahead of
//! all ([`Shares::advance_for_another`]).
//!
//! Plain data, without locks and without a clock of its own.

use std::collections::HashMap;

use crate::compute::Caller;

/// The most accounts. A client that opens a connection for each call makes an account with each. Beyond this number
/// those that are not ahead are dropped. If all are ahead, all are dropped.
const MOST_ACCOUNTS: usize = 4096;

/// The most tokens of an account beyond its limit that move the clock instead, as a part of the most lag. They are
/// those of a flood, most of whose calls are refused. In simulations, a caller of few texts is found beside 64 that ask
/// for twenty times as much each from a sixteenth to a quarter.
const MOST_EXCESS: f64 = 1.0 / 4.0;

/// The accounts of callers.
pub struct Shares {
    clock: f64,
    accounts: HashMap<Caller, f64>,
    limits: Limits,
}

/// The tokens by which an account is behind the clock, or ahead of it, at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most tokens behind the clock. A new caller is half as far behind.
    pub lag: f64,
    /// The most tokens ahead of the clock that are not in the queue yet. With a limit, a flood of calls that are
    /// refused is forgotten soon after its end.
    pub lead: f64,
}

/// A time on the clock of shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

impl Shares {
    /// Creates shares without accounts.
    pub fn new(limits: Limits) -> Self {
        Self { clock: 0.0, accounts: HashMap::new(), limits }
    }

    /// Moves the account of a caller ahead by `tokens`, as far as its limit. Tokens beyond the limit move the clock a
    /// little. Returns the tokens by which the account was moved.
    pub fn charge(&mut self, caller: Caller, tokens: f64) -> f64 {
        let before = self.clock + self.lead(caller);
        let farthest = before.max(self.clock + self.limits.lead);
        self.advance((before + tokens - farthest).min(self.limits.lag * MOST_EXCESS));
        let after = (before + tokens).min(farthest.max(self.clock + self.limits.lead));
        self.place(caller, after);
        after - before
    }

    /// Moves the account of a caller ahead by `tokens` that wait now and were not charged, or back if they are below
    /// zero. They move the clock as they leave the queue, so they have no limit. With one, the clock would stand still
    /// after the first tokens of a large call, and a caller of few texts beside it would count as one that asks for as
    /// much.
    pub fn add_waiting(&mut self, caller: Caller, tokens: f64) {
        self.place(caller, self.clock + self.lead(caller) + tokens);
    }

    fn place(&mut self, caller: Caller, account: f64) {
        if self.accounts.len() >= MOST_ACCOUNTS && !self.accounts.contains_key(&caller) {
            self.make_room();
        }
        self.accounts.insert(caller, account.max(self.clock - self.limits.lag));
    }

    /// Moves the clock for `tokens` that left the queue.
    pub fn advance(&mut self, tokens: f64) {
        let leads = self.leads().collect();
        self.advance_among(leads, tokens);
    }

    /// Moves the clock for `tokens` that went to somebody without an account, who wants more than anybody here.
    pub fn advance_for_another(&mut self, tokens: f64) {
        let leads = self.leads().chain([f64::INFINITY]).collect();
        self.advance_among(leads, tokens);
    }

    /// Moves the clock for `tokens` that are shared by accounts with these leads.
    fn advance_among(&mut self, mut leads: Vec<f64>, tokens: f64) {
        if tokens <= 0.0 {
            return;
        }
        leads.sort_unstable_by(f64::total_cmp);
        let (mut advance, mut left) = (0.0, tokens);
        for (n, lead) in leads.iter().enumerate() {
            let ahead = (leads.len() - n) as f64;
            let step = (lead - advance).min(left / ahead);
            advance += step;
            left -= step * ahead;
        }
        self.clock += advance;
    }

    /// The tokens by which a caller is ahead of the clock; below zero if it is behind.
    pub fn lead(&self, caller: Caller) -> f64 {
        let Some(account) = self.accounts.get(&caller) else { return self.limits.lag / -2.0 };
        (account - self.clock).max(-self.limits.lag)
    }

    /// The part of the last `tokens` of a caller by which it is ahead of the clock.
    pub fn part_ahead(&self, caller: Caller, tokens: f64) -> f64 {
        let lead = self.lead(caller);
        if lead >= self.limits.lead { 1.0 } else { (lead / tokens).clamp(0.0, 1.0) }
    }

    /// The time at which the next text of a caller has its turn. A caller that is ahead by at most `allowed` tokens has
    /// its turn now.
    pub fn turn(&self, caller: Caller, allowed: f64) -> Turn {
        // No time is below zero, so the bits have the order of the numbers.
        Turn((self.clock + (self.lead(caller) - allowed).max(0.0)).to_bits())
    }

    /// The tokens that have their turn before the last of the next `tokens` of a caller, if all ask for nothing more.
    pub fn before(&self, caller: Caller, tokens: usize) -> usize {
        let own = self.lead(caller).max(0.0) + tokens as f64;
        self.leads().map(|lead| lead.min(own)).sum::<f64>() as usize
    }

    fn leads(&self) -> impl Iterator<Item = f64> {
        self.accounts.values().map(|account| account - self.clock).filter(|lead| *lead > 0.0)
    }

    fn make_room(&mut self) {
        self.accounts.retain(|_, account| *account > self.clock);
        if self.accounts.len() >= MOST_ACCOUNTS {
            // Texts that wait now go before those that come.
            self.clock = self.accounts.values().copied().fold(self.clock, f64::max);
            self.accounts.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits of a lane.
    const NONE: Limits = Limits { lag: 0.0, lead: f64::INFINITY };

    fn caller(n: u64) -> Caller {
        Caller::of_connection(n)
    }

    /// Shares in which callers have asked for these tokens.
    fn asked(limits: Limits, tokens: &[usize]) -> Shares {
        let mut shares = Shares::new(limits);
        (0..).zip(tokens).for_each(|(n, tokens)| _ = shares.charge(caller(n), *tokens as f64));
        shares
    }

    fn leads(shares: &Shares, callers: u64) -> Vec<f64> {
        (0..callers).map(|n| shares.lead(caller(n))).collect()
    }

    #[test]
    fn tokens_that_leave_are_shared_evenly_between_callers_that_are_ahead() {
        let mut shares = asked(NONE, &[10, 100, 1_000]);
        shares.advance(15.0);
        assert_eq!(leads(&shares, 3), [5.0, 95.0, 995.0]);
        shares.advance(15.0 + 20.0);
        assert_eq!(leads(&shares, 4), [0.0, 80.0, 980.0, 0.0], "the first one has its tokens");
        shares.advance(1e9);
        assert_eq!(leads(&shares, 3), [0.0; 3], "nothing is left, and spare time is not counted");
    }

    /// The plain version: one token after another goes to the caller with the fewest tokens among those that want more.
    fn given_one_by_one(asked: &[usize], tokens: usize) -> Vec<usize> {
        let mut given = vec![0; asked.len()];
        for _ in 0..tokens {
            let Some(next) = (0..asked.len()).filter(|&n| given[n] < asked[n]).min_by_key(|&n| given[n]) else { break };
            given[next] += 1;
        }
        given
    }

    proptest::proptest! {
        #[test]
        fn the_clock_gives_each_caller_what_it_has_if_tokens_go_to_the_one_with_the_fewest(
            tokens in proptest::collection::vec(0_usize..300, 1..12),
            steps in proptest::collection::vec(0_usize..400, 0..8),
        ) {
            let mut shares = asked(NONE, &tokens);
            steps.iter().for_each(|step| shares.advance(*step as f64));
            let given = given_one_by_one(&tokens, steps.iter().sum());
            for (n, (asked, given)) in tokens.iter().zip(given).enumerate() {
                let lead = shares.lead(caller(n as u64));
                assert!((asked.abs_diff(given) as f64 - lead).abs() < 1.001, "caller {n}: {asked} {given} {lead}");
            }
        }
    }

    #[test]
    fn a_caller_beside_somebody_without_an_account_falls_behind_its_share() {
        let mut shares = asked(Limits { lag: 100.0, lead: 500.0 }, &[90, 20]);
        shares.advance(1_000.0);
        assert_eq!(leads(&shares, 2), [0.0, -70.0], "the clock stays at the account that is farthest ahead");
        shares.charge(caller(0), 10.0);
        shares.advance_for_another(60.0);
        assert_eq!(leads(&shares, 2), [-40.0, -100.0], "both were given 10, and the other one the rest");
    }

    #[test]
    fn an_account_stays_within_its_limits() {
        let mut shares = asked(Limits { lag: 100.0, lead: 500.0 }, &[10, 1_000_000]);
        assert_eq!(leads(&shares, 3), [-40.0, 500.0, -50.0], "a new one is half as far behind");
        shares.advance(400.0);
        assert_eq!(leads(&shares, 3), [-100.0, 100.0, -50.0]);
        shares.charge(caller(0), 30.0);
        assert_eq!(shares.lead(caller(0)), -70.0);
    }

    #[test]
    fn only_the_tokens_beyond_its_share_count_as_ahead() {
        for (tokens, part) in [(40, 0.0), (60, 10.0 / 60.0), (100, 0.5), (2_000, 1.0)] {
            let shares = asked(Limits { lag: 100.0, lead: 500.0 }, &[tokens]);
            assert_eq!(shares.part_ahead(caller(0), tokens as f64), part);
        }
    }

    #[test]
    fn tokens_beyond_the_limit_move_the_clock_a_little() {
        let limits = Limits { lag: 100.0, lead: 500.0 };
        let mut shares = asked(limits, &[550, 550]);
        assert_eq!(leads(&shares, 3), [500.0, 500.0, -50.0]);
        shares.charge(caller(2), 60.0);
        (0..4).for_each(|_| _ = shares.charge(caller(0), 1_000_000.0));
        let [_, waits, asks_little] = leads(&shares, 3)[..] else { panic!("there are three") };
        assert!(waits > 440.0 && asks_little < 0.0, "{waits} {asks_little}");
    }

    #[test]
    fn large_calls_that_wait_move_the_clock_until_their_last_token() {
        let mut shares = Shares::new(Limits { lag: 100.0, lead: 500.0 });
        for _ in 0..2 {
            let charged = shares.charge(caller(0), 10_000.0);
            shares.add_waiting(caller(0), 10_000.0 - charged);
        }
        let asks_little = |shares: &mut Shares| {
            shares.charge(caller(1), 20.0);
            shares.lead(caller(1))
        };
        asks_little(&mut shares);
        for _ in 0..39 {
            shares.advance(500.0);
            assert!(asks_little(&mut shares) < -50.0);
        }
        assert!(shares.lead(caller(0)) > 0.0);
        shares.advance(1_000.0);
        assert_eq!(shares.lead(caller(0)), 0.0, "nothing is left");
    }

    #[test]
    fn a_call_has_only_those_tokens_before_it_that_have_their_turn_first() {
        let shares = asked(NONE, &[50, 10_000, 300]);
        assert_eq!(shares.before(caller(9), 100), 50 + 100 + 100);
        assert_eq!(shares.before(caller(0), 100), 50 + 150 + 150, "its own tokens go before it");
        assert_eq!(shares.before(caller(1), 100), 10_350);
    }

    #[test]
    fn the_accounts_are_bounded_and_those_of_a_flood_of_callers_begin_behind_what_waits() {
        let mut shares = asked(NONE, &[1_000]);
        (1..10_000).for_each(|n| _ = shares.charge(caller(n), 10.0));
        assert!(shares.accounts.len() <= MOST_ACCOUNTS);
        assert_eq!(shares.clock, 1_010.0);
        shares.advance(1e9);
        (0..10_000).for_each(|n| _ = shares.charge(caller(n), 0.0));
        assert!(shares.accounts.len() <= MOST_ACCOUNTS);
    }
}
