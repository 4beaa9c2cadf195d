//! Short support tickets to measure classifiers with: made of parts, so that there are as many different ones as wanted
//! and the same on every machine. What they say is plain; no figure of quality is taken from them.

const SUBJECTS: [&str; 12] = [
    "The parcel",
    "My order",
    "The invoice",
    "The new release",
    "Your support team",
    "The mobile app",
    "The refund",
    "The replacement part",
    "My subscription",
    "The delivery",
    "The battery",
    "The login page",
];

const EVENTS: [&str; 16] = [
    "never arrived",
    "works perfectly now",
    "was charged twice",
    "crashes whenever I open the settings",
    "is better than I had expected",
    "has been waiting for two weeks",
    "came with a broken screen",
    "answered within minutes and was very kind",
    "shows the wrong amount",
    "was easy to set up",
    "stopped working after the update",
    "cannot be reached from abroad",
    "is exactly what we needed",
    "lists an address that I have changed",
    "keeps logging me out",
    "was delivered to a neighbour",
];

const CLOSINGS: [&str; 12] = [
    "Please help.",
    "Thank you!",
    "I want my money back.",
    "How do I change that?",
    "This is the third time I write.",
    "Great job, keep it up.",
    "When will it be fixed?",
    "I am very disappointed.",
    "No hurry, just letting you know.",
    "Can somebody call me?",
    "I would recommend you to anyone.",
    "Otherwise I will cancel.",
];

/// `n` tickets, all different: a number makes those that repeat a combination into new texts, as order numbers do.
pub fn tickets(n: usize) -> Vec<String> {
    let ticket = |i: usize| {
        // Strides without a common factor walk through all combinations.
        let (subject, event, closing) =
            (SUBJECTS[i % 12], EVENTS[(i / 12 + 5 * i) % 16], CLOSINGS[(i / 192 + 7 * i) % 12]);
        format!("{subject} {event}. {closing} (order {})", 10_000 + i)
    };
    (0..n).map(ticket).collect()
}
