//! The schema of the API as a table: the fields of each message by number, and the memory that they take when decoded.
//!
//! The table is made once, from the descriptors from which the stubs are generated, so new fields are included. The
//! memory is an upper bound, which a test compares with the generated structs.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::wire;

/// Bytes of a `Vec`, a `String` or a map in its message. [`bytes::Bytes`] is the largest of them.
const CONTAINER: usize = 32;
/// Bytes of a scalar, optional or not.
const SCALAR: usize = 16;
/// Bytes of the tag of a oneof or of an optional message.
const TAG: usize = 8;
/// Entries in a full node of a map. A map with more entries has nodes that are at least half full.
const NODE_ENTRIES: usize = 11;
/// Bytes of a node without its entries.
const NODE_HEADER: usize = 112;

/// All messages, and the requests of all methods.
pub struct Schema {
    messages: Vec<Message>,
    /// The index of the request message of each method, by path.
    requests: HashMap<String, usize>,
}

/// One message.
pub struct Message {
    /// Its fields by number; `None` for unused numbers.
    fields: Vec<Option<Field>>,
    /// Bytes of the generated struct.
    pub bytes: usize,
}

/// One field.
#[derive(Clone)]
pub struct Field {
    /// Its name in the proto.
    pub name: String,
    /// The type of its values.
    pub kind: Kind,
    /// True for a repeated field.
    pub repeated: bool,
    /// The limit of its count.
    pub limit: Option<Limit>,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number of any length on the wire; with its bytes in memory.
    Varint(usize),
    /// A number with the same bytes on the wire and in memory.
    Fixed(usize),
    /// A text, which is copied.
    Text,
    /// Bytes, which are shared with the message that contains them.
    Bytes,
    /// A message, by its index.
    Message(usize),
    /// An entry of a map, by its index.
    Entry(usize),
}

/// Limits of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `max_texts`.
    Texts,
    /// Documents of one message of an upload.
    Documents,
    /// Fields of one call of `Facets`.
    Facets,
}

/// The table of this API.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(wire::DESCRIPTORS).expect("build.rs encoded it");
    Schema::of(&files)
});

/// Returns the count limit of a field: all repeated fields of the requests themselves have one.
fn limit(message: &str, field: &str) -> Option<Limit> {
    match (message.strip_prefix(".cognate.v1.")?, field) {
        ("EmbedRequest" | "ClassifyRequest" | "RerankRequest" | "TokenizeRequest", "texts")
        | ("SimilarityRequest", "a" | "b")
        | ("TopKRequest", "queries" | "candidates")
        | ("GetDocumentsRequest" | "DeleteDocumentsRequest" | "UpdateDocumentsRequest", "ids") => Some(Limit::Texts),
        ("FacetsRequest", "fields") => Some(Limit::Facets),
        ("UploadRequest", "documents") => Some(Limit::Documents),
        _ => None,
    }
}

impl Schema {
    fn of(files: &FileDescriptorSet) -> Self {
        let mut named = Vec::new();
        for file in &files.file {
            let package = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| gather(&package, message, &mut named));
        }
        let index: HashMap<&str, usize> = named.iter().enumerate().map(|(n, (name, _))| (name.as_str(), n)).collect();
        let is_entry = |at: usize| named[at].1.options.as_ref().is_some_and(|options| options.map_entry());
        let field = |message: &str, field: &FieldDescriptorProto| Field {
            name: field.name().to_owned(),
            kind: kind(field, &index, is_entry),
            repeated: field.label() == Label::Repeated,
            limit: limit(message, field.name()),
        };
        let fields = |(name, message): &(String, &DescriptorProto)| {
            let most = message.field.iter().map(FieldDescriptorProto::number).max().unwrap_or(0);
            let mut fields = vec![None; usize::try_from(most).map_or(0, |most| most + 1)];
            for of in &message.field {
                if let Some(place) = usize::try_from(of.number()).ok().and_then(|number| fields.get_mut(number)) {
                    *place = Some(field(name, of));
                }
            }
            Message { fields, bytes: 0 }
        };
        let mut messages: Vec<Message> = named.iter().map(fields).collect();
        let mut sizes = vec![None; messages.len()];
        for (n, message) in messages.iter_mut().enumerate() {
            message.bytes = struct_bytes(n, &named, &index, &mut sizes);
        }
        let mut requests = HashMap::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    requests.extend(index.get(method.input_type()).map(|&at| (path, at)));
                }
            }
        }
        Self { messages, requests }
    }

    /// The index of the request of a method, by its path.
    pub fn request(&self, path: &str) -> Option<usize> {
        self.requests.get(path).copied()
    }

    /// A message, by its index.
    pub fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    /// Bytes of one element of a repeated field.
    pub fn element_bytes(&self, kind: Kind) -> usize {
        match kind {
            Kind::Varint(bytes) | Kind::Fixed(bytes) => bytes,
            Kind::Text | Kind::Bytes => CONTAINER,
            Kind::Message(at) => self.messages[at].bytes,
            // A node is at least half full, and the first entry allocates a whole one.
            Kind::Entry(at) => self.messages[at].bytes * 2 + NODE_HEADER / NODE_ENTRIES,
        }
    }

    /// Bytes that a repeated field with `count` elements takes.
    pub fn container_bytes(&self, kind: Kind, count: usize) -> usize {
        match (kind, count) {
            (_, 0) => 0,
            (Kind::Entry(at), n) => {
                let node = self.messages[at].bytes * NODE_ENTRIES + NODE_HEADER;
                node.max(n * self.element_bytes(kind))
            }
            // The capacity of a vector doubles, and begins with 4.
            (_, n) => n.next_power_of_two().max(4) * self.element_bytes(kind),
        }
    }
}

impl Message {
    /// The field with a number.
    pub fn field(&self, number: u64) -> Option<&Field> {
        self.fields.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// All fields with their numbers.
    pub fn fields(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.fields.iter().enumerate().filter_map(|(number, field)| Some((number, field.as_ref()?)))
    }
}

/// Collects a message and the messages declared in it, with their full names.
fn gather<'f>(outer: &str, message: &'f DescriptorProto, all: &mut Vec<(String, &'f DescriptorProto)>) {
    let name = format!("{outer}.{}", message.name());
    message.nested_type.iter().for_each(|inner| gather(&name, inner, all));
    all.push((name, message));
}

fn kind(field: &FieldDescriptorProto, index: &HashMap<&str, usize>, is_entry: impl Fn(usize) -> bool) -> Kind {
    match field.r#type() {
        Type::Double | Type::Fixed64 | Type::Sfixed64 => Kind::Fixed(8),
        Type::Float | Type::Fixed32 | Type::Sfixed32 => Kind::Fixed(4),
        Type::Int64 | Type::Uint64 | Type::Sint64 => Kind::Varint(8),
        Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Enum => Kind::Varint(4),
        Type::Bool => Kind::Varint(1),
        Type::String => Kind::Text,
        Type::Bytes => Kind::Bytes,
        Type::Message | Type::Group => match index.get(field.type_name()) {
            Some(&at) if is_entry(at) => Kind::Entry(at),
            Some(&at) => Kind::Message(at),
            None => Kind::Bytes, // declared in a file that is not in the set: skipped
        },
    }
}

/// The state of the computation of a struct's size.
#[derive(Clone, Copy)]
enum Size {
    Known(usize),
    /// The message contains itself: there it is in a box.
    Pending,
}

/// Bytes of a message's struct at most.
fn struct_bytes(
    at: usize,
    named: &[(String, &DescriptorProto)],
    index: &HashMap<&str, usize>,
    sizes: &mut Vec<Option<Size>>,
) -> usize {
    match sizes[at] {
        Some(Size::Known(bytes)) => return bytes,
        Some(Size::Pending) => return TAG,
        None => sizes[at] = Some(Size::Pending),
    }
    let mut bytes = 0;
    // Only one field of a oneof is set at a time.
    let mut oneofs: HashMap<i32, usize> = HashMap::new();
    for field in &named[at].1.field {
        let inner = index.get(field.type_name()).copied();
        let of_field = match (field.label(), field.r#type()) {
            (Label::Repeated, _) | (_, Type::String | Type::Bytes) => CONTAINER,
            (_, Type::Message | Type::Group) => {
                TAG + inner.map_or(CONTAINER, |inner| struct_bytes(inner, named, index, sizes))
            }
            _ => SCALAR,
        };
        match field.oneof_index {
            Some(oneof) => {
                let largest = oneofs.entry(oneof).or_default();
                *largest = of_field.max(*largest);
            }
            None => bytes += of_field,
        }
    }
    bytes += oneofs.values().map(|largest| largest + TAG).sum::<usize>();
    sizes[at] = Some(Size::Known(bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    fn bytes_of(path: &str) -> usize {
        SCHEMA.message(SCHEMA.request(path).expect("the method is in the table")).bytes
    }

    #[test]
    fn structs_take_at_most_the_memory_in_the_table() {
        let of = |method: &str| bytes_of(&format!("/cognate.v1.Cognate/{method}"));
        for (method, bytes) in [
            ("Embed", size_of::<wire::EmbedRequest>()),
            ("Classify", size_of::<wire::ClassifyRequest>()),
            ("Rerank", size_of::<wire::RerankRequest>()),
            ("Similarity", size_of::<wire::SimilarityRequest>()),
            ("TopK", size_of::<wire::TopKRequest>()),
            ("Upload", size_of::<wire::UploadRequest>()),
            ("ListDocuments", size_of::<wire::ListDocumentsRequest>()),
        ] {
            assert!(of(method) >= bytes && of(method) <= 3 * bytes, "{method}: {} of {bytes}", of(method));
        }
    }

    #[test]
    fn elements_take_at_most_the_memory_in_the_table() {
        let request =
            |method: &str| SCHEMA.message(SCHEMA.request(&format!("/cognate.v1.Cognate/{method}")).expect("a method"));
        let field = |message: &Message, name: &str| {
            let (_, field) = message.fields().find(|(_, field)| field.name == name).expect("a field");
            field.clone()
        };
        let inner = |field: &Field| match field.kind {
            Kind::Message(at) | Kind::Entry(at) => SCHEMA.message(at),
            other => panic!("{other:?} is no message"),
        };
        let documents = field(request("Upload"), "documents");
        let queries = field(request("TopK"), "queries");
        let filter = field(request("TopK"), "filter");
        let list = field(inner(&filter), "all_of");
        let filters = field(inner(&list), "filters");
        let metadata = field(inner(&documents), "metadata");
        let entries = field(inner(&metadata), "fields");
        let value = field(inner(&entries), "value");
        for (field, bytes) in [
            (&documents, size_of::<wire::Document>()),
            (&queries, size_of::<wire::Query>()),
            (&filters, size_of::<wire::Filter>()),
            (&value, size_of::<prost_types::Value>()),
        ] {
            let told = SCHEMA.element_bytes(field.kind);
            assert!(told >= bytes && told <= 3 * bytes, "{}: {told} of {bytes}", field.name);
        }
        assert!(matches!(entries.kind, Kind::Entry(_)));
        // A map with one entry takes a node of 11.
        let entry = size_of::<String>() + size_of::<prost_types::Value>();
        assert!(SCHEMA.container_bytes(entries.kind, 1) >= 11 * entry);
    }

    #[test]
    fn every_repeated_field_of_a_request_has_a_limit() {
        for &at in SCHEMA.requests.values() {
            for (_, field) in SCHEMA.message(at).fields().filter(|(_, field)| field.repeated) {
                assert!(field.limit.is_some(), "{} has no limit in `limit`", field.name);
            }
        }
    }

    #[test]
    fn every_method_of_the_service_is_in_the_table() {
        assert_eq!(SCHEMA.requests.keys().filter(|path| path.starts_with("/cognate.v1.Cognate/")).count(), 23);
    }
}
