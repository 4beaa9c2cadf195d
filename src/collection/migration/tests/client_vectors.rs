//! Migrations of documents whose vectors came from a client.

use super::*;

#[test]
fn documents_without_a_text_are_refused_or_kept_as_asked() {
    let (store, collection) = in_memory();
    put(&collection, "a", "a text").unwrap();
    put_vector(&collection, "b");
    let first = vec![id("b")];
    let refused = store.begin_migration("c", WIDE, None, ClientVectors::Refuse).err();
    assert_eq!(refused, Some(MigrationError::ClientVectors { count: 1, first: first.clone() }));
    let refused = store.begin_migration("c", WIDE, None, ClientVectors::Replace).err();
    assert_eq!(refused, Some(MigrationError::WithoutText { count: 1, first: first.clone() }));
    let other = MigrationError::OtherDimensions { count: 1, first, leader: 4, follower: 3 };
    assert_eq!(store.begin_migration("c", NEW, None, ClientVectors::Keep).err(), Some(other));
    assert!(store.migration("c").is_none() && store.list().len() == 1);

    let migration = store.begin_migration("c", WIDE, None, ClientVectors::Keep).unwrap();
    catch_up(&migration);
    let [before, after] = [&collection, &migration.follower()].map(|of| documents(of));
    assert_eq!(before[1], after[1], "the vector is the same");
    store.end_migration("c").unwrap();

    collection.remove(&[id("b")]).unwrap();
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    put_vector(&collection, "later");
    catch_up(&migration);
    assert_eq!(migration.refused(9), [id("later")]);
    assert_eq!(store.switch("c"), Err(MigrationError::NotReady { first_pass_over: true, pending: 1, refused: 1 }));
    put(&collection, "later", "with a text now").unwrap();
    catch_up(&migration);
    store.switch("c").unwrap();
}

#[test]
fn documents_with_a_text_and_a_vector_of_their_own_are_refused_kept_or_embedded_as_asked_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    put(&collection, "a", "a text").unwrap();
    put_given(&collection, "b", ("b text", "b vector"));
    put_given(&collection, "c", ("c text", "c vector"));
    let fields = json!({ "patched": true });
    let patch = Patch { fields: fields.as_object().unwrap().clone(), max_bytes: 1_000 };
    collection.update(&[id("b")], &Arc::new(patch), None).unwrap();
    put(&collection, "c", "c text").unwrap();
    drop(collection);
    for restarts in 0..2 {
        if restarts > 0 {
            drop(store);
            store = open(directory.path());
        }
        let refused = store.begin_migration("c", WIDE, None, ClientVectors::Refuse).err();
        assert_eq!(refused, Some(MigrationError::ClientVectors { count: 1, first: vec![id("b")] }));
        let other = MigrationError::OtherDimensions { count: 1, first: vec![id("b")], leader: 4, follower: 3 };
        assert_eq!(store.begin_migration("c", NEW, None, ClientVectors::Keep).err(), Some(other));
        for (treatment, of) in [(ClientVectors::Keep, "b vector"), (ClientVectors::Replace, "b text")] {
            let migration = store.begin_migration("c", WIDE, None, treatment).unwrap();
            catch_up(&migration);
            let (leader, follower) = (migration.leader(), migration.follower());
            let model = if treatment == ClientVectors::Keep { &leader } else { &follower };
            let stored = follower.vectors(&id("b")).unwrap();
            assert_eq!(stored.rows().next().unwrap().1, embed(model, of).values());
            assert_eq!(
                (migration.state().given, follower.n_given()),
                (1, usize::from(treatment == ClientVectors::Keep))
            );
            store.end_migration("c").unwrap();
        }
    }
    let migration = store.begin_migration("c", WIDE, None, ClientVectors::Keep).unwrap();
    drop(migration);
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.migration("c").unwrap().state().client_vectors, ClientVectors::Keep);
}
