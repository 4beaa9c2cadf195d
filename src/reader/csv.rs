//! Documents from separated values with a header: CSV and TSV.

use std::io::BufRead;

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::error::{Bad, Error};
use super::notes::Notes;
use super::number::{self, Double, LargeNumbers};
use super::options::Options;
use super::record::{Parsed, Record};
use super::rows::{Row, RowReader};
use super::syntax::shortened;
use super::types::Type;
use crate::wire::Document;

/// The records after the header.
pub(super) fn records<'i>(
    input: impl BufRead + Send + 'i,
    delimiter: u8,
    options: Options,
    notes: Notes,
) -> Result<impl Iterator<Item = Result<Record, Error>> + Send + 'i, Error> {
    let mut rows = RowReader::new(input, delimiter, options.has_quotes)?;
    let mut columns = Columns::find(rows.next()?, delimiter, &options)?;
    columns.note_header(&notes);
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        while !ended {
            match rows.next() {
                Ok(Some(row)) if row.end <= options.after_bytes => {}
                Ok(Some(row)) => {
                    let parsed = columns.document(&row, &options);
                    return Some(Ok(Record::new(row.line, row.end, row.raw, parsed)));
                }
                Ok(None) => {
                    ended = true;
                    columns.note_types(&notes);
                }
                Err(error) => {
                    ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }))
}

/// A column that becomes metadata.
#[derive(Debug)]
struct Column {
    name: String,
    /// The type that the user gave; `None`: text.
    given: Option<Type>,
    guess: Guess,
}

/// The types that fit all values of a column until now.
#[derive(Debug)]
struct Guess {
    values: u64,
    numbers: bool,
    booleans: bool,
}

/// The positions of id, text and metadata in a row.
#[derive(Debug)]
struct Columns {
    /// All columns, those of id and text included.
    all: Vec<Column>,
    /// The numbers of columns without a name, from 1; they got generated names.
    nameless: Vec<usize>,
    id: Option<usize>,
    text: usize,
}

impl Columns {
    fn find(header: Option<Row>, delimiter: u8, options: &Options) -> Result<Self, Error> {
        let header = header.ok_or(Error::NoHeader)?;
        let mut names = Vec::with_capacity(header.fields.len());
        let mut nameless = Vec::new();
        for (number, name) in (1..).zip(header.fields) {
            let name = String::from_utf8(name).map_err(|_| Error::HeaderNotUtf8)?;
            if name.trim().is_empty() {
                nameless.push(number);
            }
            names.push(if name.trim().is_empty() { format!("column_{number}") } else { name });
        }
        for (number, name) in names.iter().enumerate() {
            if let Some(first) = names[..number].iter().position(|earlier| earlier == name) {
                return Err(Error::TwoColumns { name: shortened(name), first: first + 1, second: number + 1 });
            }
        }
        let find = |wanted: &str| names.iter().position(|name| name == wanted);
        let missing = |wanted: &str, flag| Error::no_column(wanted, flag, &names, delimiter);
        let id = find(options.id_column());
        if let (None, Some(wanted)) = (id, &options.id_column) {
            return Err(missing(wanted, "--id-column"));
        }
        let text = find(options.text_column()).ok_or_else(|| missing(options.text_column(), "--text-column"))?;
        if id == Some(text) {
            return Err(Error::OneColumnTwice { name: shortened(&names[text]) });
        }
        for name in options.types.names() {
            match find(name) {
                None => return Err(missing(name, "--types")),
                Some(at) if at == text || Some(at) == id => {
                    return Err(Error::TypedText { name: shortened(name) });
                }
                Some(_) => {}
            }
        }
        let column = |name: String| Column {
            given: options.types.of(&name),
            name,
            guess: Guess { values: 0, numbers: true, booleans: true },
        };
        Ok(Self { nameless, id, text, all: names.into_iter().map(column).collect() })
    }

    fn document(&mut self, row: &Row, options: &Options) -> Result<Parsed, Bad> {
        if let Some(number) = row.text_after_quote {
            return Err(Bad::TextAfterQuote { field: number });
        }
        let fields: Vec<&str> = row
            .fields
            .iter()
            .map(|field| std::str::from_utf8(field))
            .collect::<Result<_, _>>()
            .map_err(|_| Bad::NotUtf8)?;
        if row.fields.len() != self.all.len() {
            return Err(Bad::FieldCount { found: row.fields.len(), expected: self.all.len() });
        }
        if row.raw.contains(&0) {
            return Err(Bad::Nul);
        }
        let (mut metadata, mut large_numbers) = (Struct::default(), 0);
        for (at, (column, &value)) in self.all.iter_mut().zip(&fields).enumerate() {
            if at == self.text || Some(at) == self.id || value.is_empty() {
                continue;
            }
            let kind = column.value(value, options.large_numbers, &mut large_numbers)?;
            metadata.fields.insert(column.name.clone(), Value { kind: Some(kind) });
        }
        let metadata = (!metadata.fields.is_empty()).then_some(metadata);
        let id = self.id.map(|at| fields[at]).filter(|id| !id.trim().is_empty()).map(str::to_owned);
        let document = Document { text: fields[self.text].to_owned(), metadata, ..Default::default() };
        Ok(Parsed::new(id, document, row.line, options).with_large_numbers(large_numbers))
    }

    /// Adds notes about names of the header that were changed or have no special meaning.
    fn note_header(&self, notes: &Notes) {
        for number in &self.nameless {
            let name = &self.all[number - 1].name;
            notes.add(format!("column {number} has no name: its values are stored as {name:?}"));
        }
        let others = self.all.iter().enumerate().filter(|(at, _)| *at != self.text && Some(*at) != self.id);
        for (_, column) in others.filter(|(_, column)| matches!(column.name.as_str(), "vector" | "metadata")) {
            let name = &column.name;
            notes.add(format!(
                "the column {name:?} is stored as text in the metadata: only JSON lines can hold a {name}"
            ));
        }
    }

    /// Adds a note about columns without a given type that hold only numbers or booleans.
    fn note_types(&self, notes: &Notes) {
        let untyped = || self.all.iter().filter(|column| column.given.is_none() && column.guess.values > 0);
        let numbers = untyped().filter(|column| column.guess.numbers).map(|column| (column, Type::Number));
        let booleans = untyped().filter(|column| column.guess.booleans).map(|column| (column, Type::Boolean));
        let found: Vec<(&Column, Type)> = numbers.chain(booleans).collect();
        let Some((first, _)) = found.first() else { return };
        let example = match found[0].1 {
            Type::Number => format!("{} >= 2", first.name),
            _ => format!("{} = true", first.name),
        };
        let names: Vec<String> = found.iter().map(|(column, _)| format!("{:?}", shortened(&column.name))).collect();
        let types: Vec<String> = found.iter().map(|(column, of)| format!("{}:{}", column.name, of.name())).collect();
        notes.add(format!(
            "the values of {} are stored as text, so a filter like '{}' finds nothing: --types '{}' stores numbers and \
             booleans",
            names.join(", "),
            shortened(&example),
            types.join(",")
        ));
    }
}

impl Column {
    fn value(&mut self, value: &str, large: LargeNumbers, large_numbers: &mut u32) -> Result<Kind, Bad> {
        let wrong = |expected| Bad::WrongType { field: self.name.clone(), expected };
        let value_trimmed = value.trim();
        match self.given {
            None => {
                self.guess.update(value);
                Ok(Kind::StringValue(value.to_owned()))
            }
            Some(Type::Text) => Ok(Kind::StringValue(value.to_owned())),
            Some(Type::Boolean) => match value_trimmed.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(Kind::BoolValue(true)),
                "false" | "0" => Ok(Kind::BoolValue(false)),
                _ => Err(wrong("true or false, as --types says")),
            },
            Some(Type::Number) if !number::is_number(value_trimmed) => {
                Err(wrong("a number as in 1999, -0.5 or 1e6, as --types says"))
            }
            Some(Type::Number) => super::json::number(value_trimmed, || self.name.clone(), large, large_numbers),
        }
    }
}

impl Guess {
    fn update(&mut self, value: &str) {
        self.values += 1;
        self.numbers &= number::is_number(value) && matches!(number::double(value), Ok(Double::Same(_)));
        self.booleans &= matches!(value, "true" | "false" | "True" | "False" | "TRUE" | "FALSE");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reader::{Format, MadeUpIds, Types, read};
    use crate::wire::metadata;

    fn all(input: &[u8], options: &Options) -> Vec<Record> {
        read(input, options).unwrap().map(Result::unwrap).collect()
    }

    fn notes(input: &str, options: &Options) -> String {
        let mut records = read(input.as_bytes(), options).unwrap();
        while records.next().is_some() {}
        records.notes().join("\n")
    }

    fn refused(input: &str, options: &Options) -> String {
        read(input.as_bytes(), options).err().expect("refused").to_string()
    }

    fn options() -> Options {
        let made_up_ids = MadeUpIds::ByLine { prefix: "file".into() };
        Options { made_up_ids, ..Options::new(Format::Csv, "file") }
    }

    fn typed(types: &str) -> Options {
        Options { types: types.parse().unwrap(), ..options() }
    }

    #[test]
    fn columns_become_id_text_and_metadata() {
        let input = b"\xef\xbb\xbfid,lang,text,year\na,en,\"one, \"\"two\"\"\nthree\",1999\nb,,plain,\n";
        let read = all(input, &options());
        let first = read[0].document.as_ref().unwrap();
        assert_eq!((first.id.as_str(), first.text.as_str()), ("a", "one, \"two\"\nthree"));
        let expected = metadata::from_json(json!({ "lang": "en", "year": "1999" }).as_object().unwrap());
        assert_eq!(first.metadata, Some(expected));
        let second = read[1].document.as_ref().unwrap();
        assert_eq!((read[1].line, second.id.as_str(), &second.metadata), (4, "b", &None), "empty fields are left out");
    }

    #[test]
    fn tabs_and_other_delimiters_separate_if_asked_for() {
        let read = all(b"id\ttext\na\tone, two\n", &Options { format: Format::Tsv, ..options() });
        let document = read[0].document.as_ref().unwrap();
        assert_eq!((document.id.as_str(), document.text.as_str()), ("a", "one, two"));
        let read = all(b"id;text\na;one, two\n", &Options { delimiter: Some(b';'), ..options() });
        assert_eq!(read[0].document.as_ref().unwrap().text, "one, two");
    }

    #[test]
    fn columns_may_have_other_names() {
        let named = Options { id_column: Some("key".into()), text_column: Some("title".into()), ..options() };
        let read = all(b"key,title\nk,t\n", &named);
        let document = read[0].document.as_ref().unwrap();
        assert_eq!((document.id.as_str(), document.text.as_str()), ("k", "t"));
    }

    #[test]
    fn a_missing_column_is_reported_with_the_existing_ones() {
        let error = refused("name,body\n", &options());
        assert_eq!(error, r#"has no column "text"; its columns are "name", "body": select one with --text-column"#);
        let named = Options { id_column: Some("key".into()), ..options() };
        assert!(refused("id,text\n", &named).contains("--id-column"), "an id column that was asked for must be there");
        assert!(refused("id, Text \n", &options()).ends_with("did you mean \" Text \"?"));
        assert!(refused("id;text\n", &options()).contains("--delimiter ';'"));
        assert!(refused("", &options()).contains("is empty"));
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let error = refused("id,text,tag,tag\na,one,x,y\n", &options());
        assert_eq!(error, r#"has two columns named "tag", the 3rd and the 4th: rename one"#);
        assert!(refused("id,id,text\n", &options()).contains("\"id\", the 1st and the 2nd"));
        let read = all(b",id,text,\n0,a,one,\n", &options());
        let expected = metadata::from_json(json!({ "column_1": "0" }).as_object().unwrap());
        assert_eq!(read[0].document.as_ref().unwrap().metadata, Some(expected));
        assert!(notes(",id,text,\n0,a,one,\n", &options()).contains("column 1 has no name"));
    }

    #[test]
    fn bad_records_are_reported_with_their_lines() {
        let read = all(b"id,text\na,1\nb\nc,2,3\nd,\xff\ne,a\0\nf,\"x\" y\n,last\n", &options());
        let found: Vec<_> = read.iter().map(|r| (r.line, r.document.as_ref().map(|d| d.id.as_str()))).collect();
        let (few, many) = (Bad::FieldCount { found: 1, expected: 2 }, Bad::FieldCount { found: 3, expected: 2 });
        let expected = [
            (2, Ok("a")),
            (3, Err(&few)),
            (4, Err(&many)),
            (5, Err(&Bad::NotUtf8)),
            (6, Err(&Bad::Nul)),
            (7, Err(&Bad::TextAfterQuote { field: 2 })),
            (8, Ok("file:8")),
        ];
        assert_eq!(found, expected);
        assert_eq!((read[2].raw.as_str(), read[5].raw.as_str()), ("c,2,3", "f,\"x\" y"), "as the file has them");
        assert!(read[6].remarks.made_up_id && !read[0].remarks.made_up_id);
    }

    #[test]
    fn values_have_the_given_types() {
        let input = b"id,text,year,flag,zip\n007,1,1999,TRUE,00501\nb,2,-0.5,0,\nc,3,n/a,true,\nd,4,5,maybe,\n";
        let read = all(input, &typed("year:number,flag:boolean,zip:text"));
        let metadata =
            |n: usize| metadata::to_json(read[n].document.as_ref().unwrap().metadata.as_ref().unwrap()).unwrap();
        assert_eq!(read[0].document.as_ref().unwrap().id, "007");
        assert_eq!(serde_json::Value::Object(metadata(0)), json!({ "year": 1999, "flag": true, "zip": "00501" }));
        assert_eq!(serde_json::Value::Object(metadata(1)), json!({ "year": -0.5, "flag": false }));
        let error = |n: usize| read[n].document.as_ref().unwrap_err().to_string();
        assert!(error(2).starts_with("\"year\" is not a number"), "{}", error(2));
        assert!(error(3).starts_with("\"flag\" is not true or false"), "{}", error(3));
    }

    #[test]
    fn types_of_missing_columns_or_of_id_and_text_are_refused() {
        assert!(refused("id,text\n", &typed("year:number")).contains("has no column \"year\""));
        assert!(refused("id,text\n", &typed("id:number")).contains("--types"));
        assert!(refused("id,text\n", &typed("text:number")).contains("--types"));
    }

    #[test]
    fn columns_of_numbers_and_booleans_stored_as_text_are_noted() {
        let input = "id,text,year,zip,ok,n\na,t,1999,00501,true,1\nb,t,2000.5,10001,false,\n";
        let said = notes(input, &options());
        assert!(said.contains("--types 'year:number,n:number,ok:boolean'"), "{said}");
        assert_eq!(notes(input, &typed("year:text,n:number,ok:boolean,zip:text")), "");
        assert_eq!(
            notes("id,text,order\na,t,9007199254740993\n", &options()),
            "",
            "a number that would be rounded is text"
        );
        assert_eq!(options().types, Types::default());
    }

    #[test]
    fn an_unclosed_quote_does_not_load_the_file_into_memory() {
        let input = [&b"id,text\na,one\nb,\"two\nc,"[..], &b"x".repeat(100)].concat();
        let mut records = read(&input[..], &options()).unwrap();
        assert!(records.next().unwrap().is_ok());
        let error = records.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("quote"), "{error}");
        assert!(records.next().is_none());
    }
}
