//! Searches while documents change, and searches that are stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::machine::raise_on_drop::RaiseOnDrop;

/// Runs `meanwhile` again and again in a second thread while `searches` run, also if one of those fails.
fn during(mut meanwhile: impl FnMut() + Send, searches: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _ending = RaiseOnDrop(&ended);
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
        collection
            .commit(vec![Document {
                id: id(0),
                content,
                vectors: documents[0].1.clone().into(),
                origin: Default::default(),
            }])
            .unwrap();
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
                let group = |hit: &Hit| hit.kept.fields().unwrap()["g"].clone();
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
        collection
            .commit(vec![Document { id: id(n), content, vectors: vector.clone().into(), origin: Default::default() }])
            .unwrap();
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
            let is_apple = &*hit.text == "apple";
            assert_eq!(hit.scores.vector.unwrap() < 0.9999, is_apple);
            assert_eq!(hit.scores.lexical.unwrap() > 0.0, is_apple == (words == "apple"));
        }
    });
}

/// A collection on disk, of which no text stays in memory.
fn stored(directory: &std::path::Path, settings: Settings) -> (Store, Arc<Collection>) {
    let disk = disk::Options { min_free_bytes: 1 << 20, ..disk::Options::default() };
    let options = Options { directory: Some(directory.to_owned()), disk, text_cache_bytes: 0, ..Options::default() };
    let store = Store::open(options).unwrap();
    let model = Model { name: "m", fingerprint: "f", dimensions: DIMENSIONS };
    let collection = store.create("c", model, settings).unwrap();
    (store, collection)
}

#[test]
fn a_document_that_is_replaced_all_the_time_has_the_text_and_the_vector_of_one_version() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, collection) = stored(directory.path(), Settings::default());
    let directions: Vec<Embedding> = fan(60).collect();
    let commit = |n: usize, text: &str, vector: &Embedding| {
        let content = Arc::new(Content::new(text, None));
        collection
            .commit(vec![Document { id: id(n), content, vectors: vector.clone().into(), origin: Default::default() }])
            .unwrap();
    };
    directions.iter().enumerate().for_each(|(n, vector)| commit(n, "other", vector));
    commit(0, "pear", &directions[0]);
    let is_apple = |text: &str, vector: &[f32]| {
        assert!(text == "apple" || text == "pear", "{text}");
        assert_eq!(text == "apple", vector == directions[3].values());
        text == "apple"
    };
    let (mut apples, mut pears) = (0, 0);
    let replace = || {
        commit(0, "apple", &directions[3]);
        commit(0, "pear", &directions[0]);
    };
    during(replace, || {
        while apples.min(pears) < 20 {
            let hits = found(&collection, &directions[0], &Search::nearest(5, Effort::Exact));
            assert_eq!(hits.len(), 5);
            let hits = collection.search(&directions[0], &Search::nearest(5, Effort::Exact));
            let hit = hits.iter().find(|hit| hit.id == id(0)).expect("it is near in both versions");
            let counter = if is_apple(&hit.text, &hit.vector) { &mut apples } else { &mut pears };
            *counter += 1;
            let got = collection.get(&id(0)).unwrap().expect("it is always there");
            is_apple(&got.text, got.vectors.iter().next().unwrap());
            let listed = collection.list(None, None, PageSize::of(100), &Stop::never()).unwrap();
            assert_eq!(listed.len(), 60);
            is_apple(&listed[0].text, listed[0].vectors.iter().next().unwrap());
            let exported: Vec<Listed> =
                collection.export(None, &Stop::never()).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(exported.len(), 60);
            is_apple(&exported[0].text, exported[0].vectors.iter().next().unwrap());
        }
    });
}

#[test]
fn a_document_that_comes_and_goes_is_found_with_its_text_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, collection) = stored(directory.path(), Settings::default());
    let directions: Vec<Embedding> = fan(3).collect();
    let commit = || {
        let content = Arc::new(Content::new("here", None));
        let vectors = directions[0].clone().into();
        collection.commit(vec![Document { id: id(0), content, vectors, origin: Default::default() }]).unwrap();
    };
    let (mut there, mut gone) = (0, 0);
    let come_and_go = || {
        commit();
        collection.remove(&[id(0)]).unwrap();
    };
    during(come_and_go, || {
        while u32::min(there, gone) < 20 {
            let hits = collection.search(&directions[0], &Search::nearest(5, Effort::Exact));
            assert!(hits.iter().all(|hit| &*hit.text == "here"));
            *(if hits.is_empty() { &mut gone } else { &mut there }) += 1;
            assert!(collection.get(&id(0)).unwrap().is_none_or(|listed| &*listed.text == "here"));
        }
    });
}

#[test]
fn an_update_keeps_a_text_that_is_on_disk_and_texts_that_have_no_room_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, collection) = stored(directory.path(), Settings::default());
    let direction = fan(1).next().unwrap();
    let content = Arc::new(Content::new("a text".repeat(1_000), json!({ "n": 1 }).as_object()));
    collection
        .commit(vec![Document { id: id(0), content, vectors: direction.clone().into(), origin: Default::default() }])
        .unwrap();
    for n in 2..5 {
        let fields = json!({ "n": n }).as_object().unwrap().clone();
        collection.update(&[id(0)], &Arc::new(Patch { fields, max_bytes: 100 }), None).unwrap();
        let got = collection.get(&id(0)).unwrap().unwrap();
        assert_eq!((got.text.len(), got.kept.fields().unwrap()["n"].clone()), (6_000, json!(n)));
    }
    let search = |text_bytes| {
        let search = Search { text_bytes, ..Search::nearest(1, Effort::Exact) };
        let asked = by_vectors(std::slice::from_ref(&direction));
        collection.search_in_call(asked, &search, &Chosen::default(), &Stop::never())
    };
    assert_eq!(search(None).unwrap()[0].text.len(), 0);
    assert_eq!(search(Some(6_000)).unwrap()[0].text.len(), 6_000);
    assert_eq!(search(Some(5_999)).unwrap_err(), FetchError::TooLarge { most: 5_999 });
    assert_eq!(collection.get_all(&[id(0), id(1)], 6_000).unwrap().iter().flatten().count(), 1);
    assert_eq!(collection.get_all(&[id(0)], 5_999).unwrap_err(), FetchError::TooLarge { most: 5_999 });
}

#[test]
fn a_hit_by_words_tells_of_the_passage_with_the_most_of_them_in_a_text_that_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { lexical: Some(crate::lexical::Options::default()), ..Settings::default() };
    let (_store, collection) = stored(directory.path(), settings);
    let (text, directions) = ("one apple. two pears.", fan(2).collect::<Vec<_>>());
    let spans = [Span { start: 0, end: 10 }, Span { start: 11, end: 21 }];
    let vectors = Vectors::of_passages(text, spans.into_iter().zip(directions.iter().cloned()).collect()).unwrap();
    collection
        .commit(vec![Document {
            id: id(0),
            content: Arc::new(Content::new(text, None)),
            vectors,
            origin: Default::default(),
        }])
        .unwrap();
    let search = Search { mode: Mode::Lexical, ..Search::nearest(1, Effort::Exact) };
    for (words, passage) in [("apple", 0), ("two pears", 1)] {
        let asked = Asked { vectors: &[], words };
        let hits = collection.search_in_call(asked, &search, &Chosen::default(), &Stop::never()).unwrap();
        assert_eq!((&*hits[0].text, hits[0].passage), (text, Some(spans[passage])));
        assert_eq!(&*hits[0].vector, directions[passage].values());
    }
}
