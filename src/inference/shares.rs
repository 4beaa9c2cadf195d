//! The shares of callers: finds callers that ask for little while others ask for much.
//!
//! Each active caller has an account on a virtual clock (Demers, Keshav and Shenker, 1989). The clock counts the tokens
//! that each of them would have been given by now, if all shared the model evenly. A caller moves its account ahead by
//! the tokens that it asks for. So the lead of an account over the clock is what its caller asked for beyond its share.
//! A caller is quiet if its lead is at most half of the mean lead. Few callers are active beside a bulk load, whose
//! tokens do not count or are soon computed. So a caller is quiet too if its lead is at most its part of a small
//! number of tokens.
//!
//! Tokens count when a call asks for them, also if it is then refused: a caller that is refused a hundred times asked
//! for more than its share. A lead has a limit. So spare time that a caller used is soon forgotten, and a flood is
//! forgotten soon after its end. After a second in which nothing waited, all accounts are dropped.
//!
//! Plain data, without locks and without a clock of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::compute::Caller;

/// The most accounts. A client that opens a connection for each call makes an account with each. Beyond this number all
/// are dropped, and the next tokens decide anew who is quiet.
const MOST_ACCOUNTS: usize = 4096;

/// The part of the greatest lead that all active callers share: up to its part of it a caller is quiet in any case.
/// Many callers that ask for the same are not quiet, because each of them would only overtake the others.
const SMALL_LEADS: f64 = 0.25;

/// The time without a waiting text after which all accounts are dropped. Clients of a flood that read their answers
/// first leave the queue empty for some milliseconds.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// The accounts of the active callers.
pub struct Shares {
    clock: f64,
    /// The account of each caller that is ahead of the clock.
    accounts: HashMap<Caller, f64>,
    /// The sum of all leads.
    leads: f64,
    most_lead: f64,
    /// The time since which nothing waits.
    empty_since: Option<Instant>,
}

impl Shares {
    /// Creates shares without accounts, whose leads are at most `most_lead` tokens.
    pub fn new(most_lead: usize) -> Self {
        Self { clock: 0.0, accounts: HashMap::new(), leads: 0.0, most_lead: most_lead as f64, empty_since: None }
    }

    /// Records that a caller asks for `tokens`, and tells if the caller is quiet.
    pub fn ask(&mut self, caller: Caller, tokens: usize) -> bool {
        if self.accounts.len() >= MOST_ACCOUNTS && !self.accounts.contains_key(&caller) {
            self.forget();
        }
        let mean = self.leads / self.accounts.len().max(1) as f64;
        let account = self.accounts.entry(caller).or_insert(self.clock);
        let before = *account - self.clock;
        let lead = before + tokens as f64;
        *account = self.clock + lead.min(self.most_lead);
        self.leads += lead.min(self.most_lead) - before;
        let small = self.most_lead * SMALL_LEADS / self.accounts.len() as f64;
        lead <= small.max(mean / 2.0)
    }

    /// Records that a batch of `tokens` goes to the model.
    pub fn served(&mut self, tokens: usize) {
        self.clock += tokens as f64 / self.accounts.len().max(1) as f64;
        self.accounts.retain(|_, account| *account > self.clock);
        self.leads = self.accounts.values().map(|account| account - self.clock).sum();
    }

    /// Records that texts wait, or that none does.
    pub fn waiting(&mut self, any: bool, now: Instant) {
        if !any {
            self.empty_since.get_or_insert(now);
        } else if let Some(since) = self.empty_since.take()
            && now.saturating_duration_since(since) >= FORGET_AFTER
        {
            self.forget();
        }
    }

    /// Drops all accounts.
    fn forget(&mut self) {
        self.accounts.clear();
        (self.clock, self.leads) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_LEAD: usize = 512;

    fn caller(n: u64) -> Caller {
        Caller::of_connection(n)
    }

    fn ask_all(shares: &mut Shares, callers: u64, tokens: usize) {
        for n in 0..callers {
            shares.ask(caller(n), tokens);
        }
    }

    /// Shares in which `callers` have asked for `tokens` each.
    fn asked(callers: u64, tokens: usize) -> Shares {
        let mut shares = Shares::new(MOST_LEAD);
        ask_all(&mut shares, callers, tokens);
        shares
    }

    #[test]
    fn a_caller_that_asks_for_little_is_quiet_and_those_that_ask_for_much_are_not() {
        let mut shares = asked(64, 96);
        assert!(shares.ask(caller(99), 20));
        assert!((0..64).all(|n| !shares.ask(caller(n), 20)));
    }

    #[test]
    fn many_callers_that_ask_for_the_same_are_not_quiet() {
        let mut shares = Shares::new(MOST_LEAD);
        let quiet = (0..100).chain(0..100).filter(|&n| shares.ask(caller(n), 20));
        assert!(quiet.count() <= 6, "the first ones are few");
    }

    #[test]
    fn a_caller_of_a_short_text_is_quiet_beside_a_call_that_is_almost_done() {
        let mut shares = asked(1, 4_000);
        shares.served(2 * MOST_LEAD);
        assert!(shares.ask(caller(1), 20) && !shares.ask(caller(1), 200));
    }

    #[test]
    fn a_caller_stays_quiet_if_it_asks_for_less_than_its_share_of_what_is_computed() {
        let mut shares = asked(9, 400);
        for round in 0..1_000 {
            assert!(shares.ask(caller(99), 20), "round {round}");
            ask_all(&mut shares, 9, 400);
            shares.served(250); // 25 for each of the ten
        }
        let rounds = (0..1_000).take_while(|_| {
            ask_all(&mut shares, 9, 400);
            shares.served(250);
            shares.ask(caller(99), 40)
        });
        assert!(rounds.count() < 30, "it asks for more than its share now");
    }

    #[test]
    fn a_flood_is_forgotten_when_others_were_given_its_lead() {
        let mut shares = asked(1, 1_000_000);
        let mut batches = 0;
        // Another caller asks for a lot now.
        while !shares.ask(caller(0), 1) {
            shares.ask(caller(1), 600);
            shares.served(100);
            batches += 1;
        }
        assert!(batches <= 2 * MOST_LEAD / 100, "{batches} batches");
    }

    #[test]
    fn accounts_outlast_a_short_time_in_which_nothing_waits() {
        let (mut shares, begun) = (asked(2, 1_000), Instant::now());
        for (pause, accounts) in [(10, 2), (1_000, 0)] {
            shares.waiting(false, begun);
            shares.waiting(false, begun + Duration::from_millis(pause / 2));
            shares.waiting(true, begun + Duration::from_millis(pause));
            assert_eq!(shares.accounts.len(), accounts, "{pause} ms");
        }
    }

    #[test]
    fn the_accounts_are_bounded() {
        let mut shares = asked(10_000, 1_000);
        assert!(shares.accounts.len() <= MOST_ACCOUNTS);
        shares.served(MOST_LEAD * MOST_ACCOUNTS);
        assert_eq!((shares.accounts.len(), shares.leads), (0, 0.0));
    }
}
