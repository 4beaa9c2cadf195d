//! The steps that search.

use cognate_client::wire::filter::Condition;
use cognate_client::wire::query::Query as By;
use cognate_client::wire::{
    EqualsCondition, ExistsCondition, Filter, FilterList, Hit, InCondition, Query, RangeCondition, TopKRequest,
};

use super::documents::{document, id, text};
use super::{COLLECTION, Outcome, Scenario, check};

fn condition(condition: Condition) -> Filter {
    Filter { condition: Some(condition) }
}

impl Scenario {
    /// Returns the hits of a call with one query.
    async fn hits(&self, request: TopKRequest) -> Outcome<Vec<Hit>> {
        let answer = self.client.top_k(request).await?;
        check!(answer.results.len() == 1 && answer.results[0].error.is_none(), "{answer:?}");
        Ok(answer.results.into_iter().flat_map(|result| result.hits).collect())
    }

    /// Demands that document 42 is the first of three hits, and returns it.
    async fn first(&self, query: Query) -> Outcome<Hit> {
        let request = TopKRequest {
            collection: COLLECTION.to_owned(),
            queries: vec![query],
            k: 3,
            with_text: true,
            with_metadata: true,
            with_vector: true,
            ..TopKRequest::default()
        };
        let hits = self.hits(request).await?;
        check!(hits.len() == 3 && hits[0].id == id(42), "{hits:?}");
        Ok(hits.into_iter().next().unwrap_or_default())
    }

    pub async fn top_k_text(&mut self) -> Outcome {
        self.found = self.first(Query::from(text(42).as_str())).await?;
        check!(self.found.text == text(42), "{}", self.found.text);
        check!(self.found.metadata == document(42).metadata, "{:?}", self.found.metadata);
        Ok(())
    }

    pub async fn top_k_vector(&self) -> Outcome {
        let vector = self.found.vector.clone().ok_or("topk-text found no vector")?;
        self.first(Query { query: Some(By::Vector(vector)), ..Query::default() }).await.map(drop)
    }

    pub async fn top_k_id(&self) -> Outcome {
        self.first(Query::by_id(id(42))).await.map(drop)
    }

    pub async fn filter(&self) -> Outcome {
        let equals = |path: &str, value| {
            condition(Condition::Equals(EqualsCondition { path: Some(path.to_owned()), value: Some(value) }))
        };
        let number = Some("number".to_owned());
        let between = RangeCondition { path: number, gte: Some(100.0), lt: Some(900.0), ..RangeCondition::default() };
        let tags = InCondition { path: Some("tags".to_owned()), values: vec!["t2".into(), "t9".into()] };
        let either = vec![condition(Condition::OneOf(tags)), equals("number", (-1).into())];
        let all = vec![
            condition(Condition::Range(between)),
            condition(Condition::Negated(Box::new(equals("even", true.into())))),
            condition(Condition::Exists(ExistsCondition { path: Some("author.name".to_owned()) })),
            condition(Condition::AnyOf(FilterList { filters: either })),
        ];
        let by_messages = self.matching(condition(Condition::AllOf(FilterList { filters: all }))).await?;
        let found = by_messages.len() == 134 && [101, 899].iter().all(|n| by_messages.contains(&id(*n)));
        check!(found, "{by_messages:?}");
        let by_text = "100 <= number < 900 and not even = true and author.name exists and (tags in (\"t2\", \"t9\") or \
                       number = -1)";
        let by_text = self.matching(Filter::from(by_text)).await?;
        check!(by_text == by_messages, "by messages {by_messages:?}\nby text {by_text:?}");
        Ok(())
    }

    /// Returns the ids of the documents that match a filter, in order.
    async fn matching(&self, filter: Filter) -> Outcome<Vec<String>> {
        let (collection, queries) = (COLLECTION.to_owned(), vec![Query::from("a dog")]);
        let request = TopKRequest { collection, queries, k: 1000, filter: Some(filter), ..TopKRequest::default() };
        let mut ids: Vec<String> = self.hits(request).await?.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        Ok(ids)
    }

    pub async fn candidates(&self) -> Outcome {
        let candidates = ["a train", "a loaf of bread", "a cat"].map(str::to_owned).to_vec();
        let queries = vec![Query::from("a vehicle on rails")];
        let hits = self.hits(TopKRequest { queries, candidates, k: 3, ..TopKRequest::default() }).await?;
        check!(hits.len() == 3 && hits.iter().all(|hit| hit.candidate.is_some()), "{hits:?}");
        check!(hits[0].candidate == Some(0) && self.found.candidate.is_none(), "{hits:?}, {:?}", self.found);
        Ok(())
    }

    pub async fn message_size(&self) -> Outcome {
        let request = TopKRequest {
            collection: COLLECTION.to_owned(),
            queries: (0..8).map(|n| Query::from(text(n).as_str())).collect(),
            k: 1000,
            with_vector: true,
            ..TopKRequest::default()
        };
        let by_default = self.client.top_k(request.clone()).await.map(|answer| answer.results.len());
        println!("a client with defaults: {by_default:?}");
        let results = self.sized_client().await?.top_k(request).await?.results;
        let hits: Vec<usize> = results.iter().map(|result| result.hits.len()).collect();
        check!(hits == [898; 8], "{hits:?}");
        Ok(())
    }
}
