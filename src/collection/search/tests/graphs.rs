//! Searches through graphs: groups and copies that fill the neighbourhood of a query.

use super::*;

#[test]
fn a_group_of_nine_tenths_that_is_all_nearer_leaves_as_many_hits_as_there_can_be() {
    let value = |n: usize| Some(if n < 4_500 { json!("big") } else { json!(n % 100) });
    let documents: Vec<Said> = fan(5_000).enumerate().map(|(n, vector)| (value(n), vector)).collect();
    let collection = collection(&documents, graphs());
    for (k, size, possible) in [(5, 1, 101), (60, 1, 101), (200, 1, 101), (200, 3, 303), (1_000, 7, 507)] {
        for effort in [Effort::Exact, Effort::Graph { ef: None }] {
            let search = Search { groups: Some(by(size)), ..Search::nearest(k, effort) };
            let hits = collection.search(&documents[0].1, &search);
            assert_eq!(hits.len(), k.min(possible), "k {k}, {size} of a group, {effort:?}");
            assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let mut members: HashMap<String, usize> = HashMap::new();
            hits.iter().for_each(|hit| *members.entry(format!("{:?}", hit.kept.metadata)).or_default() += 1);
            assert!(members.values().all(|n| *n <= size), "{members:?}");
            if effort == Effort::Exact {
                assert_eq!(found(&collection, &documents[0].1, &search), plain(&documents, &documents[0].1, &search));
            }
        }
    }
}

#[test]
fn groups_that_lie_one_behind_the_other_are_passed_in_a_few_rounds() {
    let documents: Vec<Said> =
        fan(6_000).enumerate().map(|(n, vector)| (Some(json!((n / 100).to_string())), vector)).collect();
    let collection = collection(&documents, graphs());
    let search = Search { groups: Some(by(1)), ..Search::nearest(60, Effort::Exact) };
    let query = &documents[0].1;
    assert_eq!(found(&collection, query, &search), plain(&documents, query, &search));
    assert_eq!(collection.search(query, &Search { effort: Effort::Graph { ef: None }, ..search }).len(), 60);
}

#[test]
fn a_query_is_checked_if_it_names_no_effort_and_so_is_each_round_of_groups() {
    let documents: Vec<Said> = fan(300).map(|vector| (Some(json!("big")), vector)).collect();
    let collection = collection(&documents, graphs());
    let query = &documents[7].1;
    let nearest = |effort| Search::nearest(3, effort);
    let by_default = nearest(Effort::Graph { ef: None });
    let checks = |search: &Search| {
        collection.search(query, search);
        std::iter::repeat_with(|| collection.audit()).take_while(|checked| *checked).count()
    };
    assert_eq!(checks(&by_default), 1);
    assert_eq!(checks(&Search { diversity: Diversity::new(0.5), ..by_default.clone() }), 1);
    assert_eq!(checks(&nearest(Effort::Exact)), 0);
    assert_eq!(checks(&nearest(Effort::Graph { ef: Some(64) })), 0);
    assert_eq!(checks(&Search { groups: Some(by(1)), ..by_default.clone() }), 2);
    assert_eq!(checks(&Search { filter: Some(text::parse("g = big").unwrap()), ..by_default }), 1);
    assert_eq!(collection.quality().checked, 4, "no document was left for the second round of groups");
    // Many documents with equal scores take one search of the index.
    let alike = self::collection(&vec![(None, documents[0].1.clone()); 300], graphs());
    alike.search(&documents[0].1, &nearest(Effort::Graph { ef: None }));
    assert!(alike.audit() && !alike.audit());
}

#[test]
fn groups_that_fill_the_neighbourhood_hide_nothing_behind_them() {
    const PER_GROUP: usize = 200;
    let mut random = fastrand::Rng::with_seed(7);
    let mut random = || random.f32() - 0.5;
    let centres: Vec<Vec<f32>> = (0..40).map(|_| (0..32).map(|_| random()).collect()).collect();
    let documents: Vec<Said> = (0..40 * PER_GROUP)
        .map(|n| {
            let near = centres[n / PER_GROUP].iter().map(|x| x + 0.4 * random()).collect();
            (Some(json!(n / PER_GROUP)), Embedding::normalized(near).unwrap())
        })
        .collect();
    let options = index::Options { exact_below: 500, scan_rows_per_ef: 10, ..index::Options::default() };
    let collection = collection(&documents, options);
    let (mut hits, mut wanted) = (0, 0);
    for (_, query) in documents.iter().step_by(397) {
        let search = |effort| Search { groups: Some(by(3)), ..Search::nearest(10, effort) };
        let exact = found(&collection, query, &search(Effort::Exact));
        let walked = found(&collection, query, &search(Effort::Graph { ef: None }));
        assert_eq!(walked.len(), exact.len());
        wanted += exact.len();
        hits += exact.iter().filter(|hit| walked.contains(hit)).count();
    }
    let recall = hits as f32 / wanted as f32;
    assert!(recall >= 0.95, "recall@10 {recall}");
}

#[test]
fn thousands_of_copies_give_the_lowest_ids_and_each_copy_is_compared_once() {
    let others: Vec<Embedding> = fan(2_000).collect();
    let one = others[1_000].clone();
    let documents: Vec<Said> = others.into_iter().chain(vec![one.clone(); 5_000]).map(|v| (None, v)).collect();
    let collection = collection(&documents, graphs());
    for effort in [Effort::Exact, Effort::Graph { ef: None }] {
        for k in [1, 10, 3_000] {
            let before = index::COMPARED.get();
            let hits = found(&collection, &one, &Search::nearest(k, effort));
            let compared = index::COMPARED.get() - before;
            let lowest = std::iter::once(1_000).chain(2_000..).take(k).map(id);
            assert!(hits.iter().map(|(id, _)| id).eq(&lowest.collect::<Vec<_>>()), "k {k}, {effort:?}");
            assert!(compared < 6_000, "{compared} rows were compared for k {k}, {effort:?}");
        }
    }
}
