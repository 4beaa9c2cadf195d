//! Searches while documents change, and searches that are stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Runs `meanwhile` again and again in a second thread while `searches` run, also if one of those fails.
fn during(mut meanwhile: impl FnMut() + Send, searches: impl FnOnce()) {
    /// Ends the second thread when it is dropped.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _end = End(&ended);
        threads.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                meanwhile();
            }
        });
        searches();
    });
}

#[test]
fn a_document_that_becomes_long_during_a_search_is_one_hit() {
    let directions: Vec<Embedding> = fan(400).collect();
    let collection =
        collection_of(&directions.iter().map(|one| (None, vec![one.clone()])).collect::<Vec<_>>(), graphs());
    let mut numbers = 1..;
    let replace = || {
        let vectors = directions[..1 + numbers.next().unwrap() % 5].to_vec();
        collection.commit(vec![document(0, &(None, vectors))]).unwrap();
    };
    during(replace, || {
        for _ in 0..500 {
            let hits = found(&collection, &directions[0], &Search::nearest(5, Effort::Exact));
            assert_eq!(hits.iter().map(|hit| hit.0.clone()).collect::<Vec<_>>(), (0..5).map(id).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_document_that_is_replaced_all_the_time_is_in_every_answer() {
    let value = |n: usize| Some(json!(if n.is_multiple_of(2) { "even" } else { "odd" }));
    let documents: Vec<Said> = fan(400).enumerate().map(|(n, vector)| (value(n), vector)).collect();
    let collection = collection(&documents, index::Options::default());
    let nearest = Search::nearest(5, Effort::Exact);
    let searches = [
        nearest.clone(),
        Search { filter: Some(text::parse("g = even").unwrap()), ..nearest.clone() },
        Search { groups: Some(by(5)), ..nearest.clone() },
        Search { groups: Some(by(2)), filter: Some(text::parse("g = even").unwrap()), ..nearest },
    ];
    // Document 0 moves to another position of the index each time, and the metadata stay as they were.
    let replace = || {
        let metadata = json!({ "g": value(0) }).as_object().cloned();
        let content = Arc::new(Content::new("", metadata.as_ref()));
        collection.commit(vec![Document { id: id(0), content, vectors: documents[0].1.clone().into() }]).unwrap();
    };
    during(replace, || {
        for _ in 0..300 {
            for search in &searches {
                let chosen = Chosen::default();
                // The second query of a call uses the first one's filter result.
                for _ in 0..2 {
                    let found = collection
                        .search_in_call(
                            by_vectors(std::slice::from_ref(&documents[0].1)),
                            search,
                            &chosen,
                            &Stop::never(),
                        )
                        .expect("not stopped");
                    let wanted = search.groups.as_ref().map_or(5, |groups| groups.size.get());
                    assert_eq!((found.len(), &found[0].id), (if wanted == 2 { 2 } else { 5 }, &id(0)), "{search:?}");
                }
            }
        }
    });
}

#[test]
fn a_document_that_is_updated_all_the_time_is_found_in_a_state_that_belongs_to_the_answer() {
    let documents: Vec<Said> = fan(8).map(|vector| (Some(json!("even")), vector)).collect();
    let collection = collection(&documents, index::Options::default());
    let ids: Vec<DocId> = (0..4).map(id).collect();
    let even = Some(text::parse("g = even").unwrap());
    let searches = [
        Search { filter: even.clone(), ..Search::nearest(8, Effort::Exact) },
        Search { groups: Some(by(6)), ..Search::nearest(8, Effort::Exact) },
        Search { filter: even, groups: Some(by(6)), ..Search::nearest(8, Effort::Exact) },
    ];
    std::thread::scope(|threads| {
        let updates = threads.spawn(|| {
            for n in 0..600 {
                let fields = json!({ "g": if n % 2 == 0 { "odd" } else { "even" } }).as_object().unwrap().clone();
                collection.update(&ids, &Arc::new(Patch { fields, max_bytes: 100 }), None).unwrap();
            }
        });
        while !updates.is_finished() {
            for search in &searches {
                let found = collection.search(&documents[0].1, search);
                let group = |hit: &Hit| hit.content.fields().unwrap()["g"].clone();
                let even = found.iter().filter(|hit| group(hit) == "even").count();
                // Four documents change together, and the other four stay even.
                let expected: &[_] = match (&search.filter, &search.groups) {
                    (Some(_), None) => &[(4, 4), (8, 8)],
                    (None, _) => &[(8, 4), (6, 6)],
                    (Some(_), Some(_)) => &[(4, 4), (6, 6)],
                };
                assert!(expected.contains(&(found.len(), even)), "{search:?}: {} hits, {even} even", found.len());
            }
        }
    });
}

#[test]
fn a_search_that_is_stopped_has_no_answer() {
    let documents: Vec<Said> = fan(300).map(|vector| (None, vector)).collect();
    let collection = collection(&documents, index::Options::default());
    let stop = Stop::never();
    stop.raise();
    let search = Search { filter: Some(text::parse("g = even").unwrap()), ..Search::nearest(5, Effort::Exact) };
    for search in [search, Search { diversity: Diversity::new(0.5), ..Search::nearest(5, Effort::Exact) }] {
        let query = std::slice::from_ref(&documents[0].1);
        assert!(collection.search_in_call(by_vectors(query), &search, &Chosen::default(), &stop).is_err());
    }
}

#[test]
fn a_document_that_is_replaced_all_the_time_has_the_words_and_the_vector_of_one_version() {
    let store = Store::open(Options::default()).unwrap();
    let model = Model { name: "m", fingerprint: "f", dimensions: DIMENSIONS };
    let settings = Settings { lexical: Some(crate::lexical::Options::default()), ..Settings::default() };
    let collection = store.create("c", model, settings).unwrap();
    let directions: Vec<Embedding> = fan(400).collect();
    let commit = |n: usize, text: &str, vector: &Embedding| {
        let content = Arc::new(Content::new(text, None));
        collection.commit(vec![Document { id: id(n), content, vectors: vector.clone().into() }]).unwrap();
    };
    directions.iter().enumerate().for_each(|(n, vector)| commit(n, "other words", vector));
    // From now on, document 0 has one of these two versions.
    commit(0, "pear", &directions[0]);
    let mode = Mode::Hybrid(fusion::Fusion::WeightedScores { weight: 1.0 });
    let search = Search { mode, ..Search::nearest(5, Effort::Exact) };
    let replace = || {
        commit(0, "apple", &directions[3]);
        commit(0, "pear", &directions[0]);
    };
    during(replace, || {
        for words in ["apple", "pear"].into_iter().cycle().take(600) {
            let asked = Asked { vectors: &directions[..1], words };
            let hits = collection.search_in_call(asked, &search, &Chosen::default(), &Stop::never()).unwrap();
            let hit = hits.iter().find(|hit| hit.id == id(0)).expect("it is near in both versions");
            let is_apple = &*hit.content.text == "apple";
            assert_eq!(hit.scores.vector.unwrap() < 0.9999, is_apple);
            assert_eq!(hit.scores.lexical.unwrap() > 0.0, is_apple == (words == "apple"));
        }
    });
}
