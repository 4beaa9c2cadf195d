//! A queue that is fair between calls: weighted fair queueing (Demers, Keshav and Shenker, 1989), with measured costs.
//!
//! Each call has received some amount of service, and each task has an expected cost. The next task is the one that
//! would end first if all calls shared the threads evenly: `due = max(clock, service of its call) + cost`. The clock is
//! the service that each waiting call would have received by now. So a cheap call overtakes an expensive one that came
//! earlier, and the expensive one waits only until its share is due.
//!
//! Plain data: it has no threads and no locks, and reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// Tasks in the order in which they are due.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: BTreeMap<(u64, u64), T>,
    /// Virtual time in microseconds.
    clock: u64,
    /// Counts tasks: tasks that are due at the same time keep their order.
    arrivals: u64,
}

/// The service that one call has received, on the clock of a [`Queue`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Service(u64);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), clock: 0, arrivals: 0 }
    }
}

impl<T> Queue<T> {
    /// Adds a task, and charges its expected cost to its call.
    pub fn push(&mut self, task: T, service: &mut Service, cost: Duration) {
        service.0 = self.clock.max(service.0).saturating_add(micros(cost));
        self.arrivals += 1;
        self.waiting.insert((service.0, self.arrivals), task);
    }

    /// Removes and returns the task that is due first.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_first().map(|(_, task)| task)
    }

    /// Records that a task with the expected cost `cost` took `elapsed`, while `running` tasks ran, this one included.
    pub fn served(&mut self, service: &mut Service, cost: Duration, elapsed: Duration, running: usize) {
        let elapsed = micros(elapsed).max(1);
        service.0 = service.0.saturating_add(elapsed).saturating_sub(micros(cost));
        let sharers = (self.waiting.len() + running).max(1) as u64;
        self.clock = self.clock.saturating_add((elapsed / sharers).max(1));
    }

    /// Removes and returns the tasks for which `unwanted` is true.
    pub fn remove(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        self.waiting.extract_if(.., |_, task| unwanted(task)).map(|(_, task)| task).collect()
    }

    /// Removes and returns all tasks.
    pub fn clear(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// The number of waiting tasks.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_cheap_task_overtakes_earlier_expensive_ones() {
        let mut queue = Queue::default();
        (0..50).for_each(|n| queue.push(n, &mut Service::default(), 20 * MS));
        queue.push(99, &mut Service::default(), MS);
        assert_eq!(queue.pop(), Some(99));
        assert_eq!((queue.pop(), queue.pop(), queue.len()), (Some(0), Some(1), 48));
    }

    #[test]
    fn a_hundred_tasks_of_one_call_do_not_delay_another_call() {
        let mut queue = Queue::default();
        let mut services = [Service::default(); 2];
        (0..100).for_each(|_| queue.push(0, &mut services[0], 5 * MS));
        let mut served = [0; 2];
        // The second call queues its next task when its last one is done.
        queue.push(1, &mut services[1], 5 * MS);
        for _ in 0..40 {
            let call: usize = queue.pop().unwrap();
            served[call] += 1;
            queue.served(&mut services[call], 5 * MS, 5 * MS, 1);
            if call == 1 {
                queue.push(1, &mut services[1], 5 * MS);
            }
        }
        assert!(served[1] >= 15, "{served:?}");
    }

    #[test]
    fn an_expensive_task_does_not_wait_for_ever() {
        let mut queue = Queue::default();
        queue.push("long", &mut Service::default(), 100 * MS);
        let mut passed = 0;
        loop {
            queue.push("short", &mut Service::default(), MS);
            if queue.pop() == Some("long") {
                break;
            }
            passed += 1;
            queue.served(&mut Service::default(), MS, MS, 1);
        }
        assert!((50..=400).contains(&passed), "{passed} short tasks went first");
    }

    #[test]
    fn removed_tasks_are_not_returned_again() {
        let mut queue = Queue::default();
        (0..10).for_each(|n| queue.push(n, &mut Service::default(), MS));
        assert_eq!(queue.remove(|n| n % 2 == 0), [0, 2, 4, 6, 8]);
        assert_eq!(queue.pop(), Some(1));
        assert_eq!((queue.clear(), queue.len()), (vec![3, 5, 7, 9], 0));
    }
}
