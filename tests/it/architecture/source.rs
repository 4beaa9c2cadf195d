//! The parsed sources of the server's crate and of the client's, as if they were one: each file, the modules in it, and
//! the names that it uses of other files and crates.
//!
//! Names are resolved as the compiler resolves them, as far as our crates need it: `crate::`, `self::`, `super::`,
//! grouped and renamed imports, globs, imports of modules, re-exports, and paths in code, macros and attributes. A name
//! that a macro defines counts as defined in the module of its path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta, UseTree, Visibility};

/// The segments of a path, or of a module's place in the crate.
type Names = Vec<String>;

/// The sources of the client's crate.
const CLIENT: &str = "clients/rust/src";

/// Both crates, as if they were one.
pub struct Sources {
    files: BTreeMap<String, syn::File>,
    modules: BTreeMap<Names, Module>,
}

/// A module. It may be a part of a file.
#[derive(Default)]
struct Module {
    file: String,
    /// True if it is compiled for tests only.
    is_test: bool,
    children: BTreeSet<String>,
    items: BTreeSet<String>,
    /// The imports, by their local names.
    imports: BTreeMap<String, Names>,
    globs: Vec<Names>,
}

/// A name that a file uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The file.
    pub from: String,
    /// The path as it is written.
    pub path: String,
    /// The module that the path names from the crate's root: `kernel` of `crate::kernel::dot`. `None`: the path does
    /// not begin there, or names another crate.
    pub module: Option<String>,
    /// The item that the path leads to.
    pub to: Target,
    /// True if it is compiled for tests only.
    pub is_test: bool,
}

/// The target of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An item that this file defines and that the other one uses.
    File(String),
    /// A module, or an item that is passed on by `pub use`: a signpost, which uses nothing itself.
    Signpost,
    /// Another crate.
    Crate(String),
}

enum Found {
    Item(Names),
    Module(Names),
    Crate(String),
}

impl Sources {
    /// Reads the files of the repository at `root`: those under `src`, and the client's crate as its parts `client` and
    /// `wire`.
    pub fn read(root: &Path) -> Self {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&root.join("src"), &mut found);
        walk(&root.join(CLIENT), &mut found);
        let texts = found.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        let texts = texts.map(|path| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            (short(&name).expect("a file of the sources"), fs::read_to_string(path).unwrap())
        });
        Self::parse(texts)
    }

    /// Parses files, given by their short names.
    pub fn parse(texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let parsed = texts.into_iter().map(|(file, text)| {
            let code = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            (file, code)
        });
        let files: BTreeMap<String, syn::File> = parsed.collect();
        let mut modules = BTreeMap::new();
        for (file, code) in &files {
            let mut collector = Collector { file, at: place(file), modules: &mut modules };
            collector.module().file.clone_from(file);
            collector.visit_file(code);
        }
        let mut sources = Self { files, modules };
        sources.spread_tests();
        sources
    }

    /// The modules of the crate's root.
    pub fn top_modules(&self) -> BTreeSet<&str> {
        self.files.keys().map(|file| top_module(file)).collect()
    }

    /// Returns all names that files use of each other and of other crates, each once.
    pub fn references(&self) -> BTreeSet<Reference> {
        let mut references = BTreeSet::new();
        for (file, code) in &self.files {
            let at = place(file);
            let tests = usize::from(self.modules[&at].is_test);
            let mut reader = Reader { sources: self, file, at, tests, found: &mut references };
            reader.visit_file(code);
        }
        references
    }

    /// Returns the files that have `unsafe` code, or allow it.
    pub fn unsafe_files(&self) -> Vec<&str> {
        struct Search(bool);
        impl<'c> Visit<'c> for Search {
            fn visit_expr_unsafe(&mut self, _: &'c syn::ExprUnsafe) {
                self.0 = true;
            }
            fn visit_safety(&mut self, safety: &'c syn::Safety) {
                self.0 |= matches!(safety, syn::Safety::Unsafe(_));
            }
            fn visit_item_impl(&mut self, item: &'c syn::ItemImpl) {
                self.0 |= item.unsafety.is_some();
                visit::visit_item_impl(self, item);
            }
            fn visit_item_trait(&mut self, item: &'c syn::ItemTrait) {
                self.0 |= item.unsafety.is_some();
                visit::visit_item_trait(self, item);
            }
            fn visit_macro(&mut self, call: &'c syn::Macro) {
                self.0 |= paths_in(&call.tokens.to_string()).iter().any(|path| path == &["unsafe"]);
            }
            fn visit_attribute(&mut self, attribute: &'c Attribute) {
                let Meta::List(list) = &attribute.meta else { return };
                self.0 |= list.path.is_ident("allow") && list.tokens.to_string().contains("unsafe_code");
            }
        }
        let has_unsafe = |code| {
            let mut search = Search(false);
            search.visit_file(code);
            search.0
        };
        self.files.iter().filter(|(_, code)| has_unsafe(code)).map(|(file, _)| file.as_str()).collect()
    }

    /// Marks everything below a declaration for tests as for tests too.
    fn spread_tests(&mut self) {
        let tests: Vec<Names> =
            self.modules.iter().filter(|(_, module)| module.is_test).map(|(place, _)| place.clone()).collect();
        for (place, module) in &mut self.modules {
            module.is_test |= tests.iter().any(|test| place.starts_with(test));
        }
    }

    /// Resolves `path` in the module at `at`. `asked`: the names in resolution, so that circles of imports end.
    fn resolve(&self, at: &[String], path: &[String], asked: &mut BTreeSet<(Names, String)>) -> Option<Found> {
        let path = &absolute(at, path)[..];
        let (first, mut rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" | "cognate" => Found::Module(Names::new()),
            "self" => Found::Module(at.to_vec()),
            "super" => {
                let mut place = at.split_last()?.1;
                while rest.first().is_some_and(|next| next == "super") {
                    (place, rest) = (place.split_last()?.1, &rest[1..]);
                }
                Found::Module(place.to_vec())
            }
            "Self" => return None,
            name => match self.in_module(at, name, asked) {
                Some(found) => found,
                // A single name is a variable, or belongs to the standard library.
                None if rest.is_empty() => return None,
                None => Found::Crate(name.to_owned()),
            },
        };
        for name in rest {
            let Found::Module(place) = &found else { break };
            found = self.in_module(place, name, asked).unwrap_or_else(|| Found::Item(place.clone()));
        }
        Some(found)
    }

    fn in_module(&self, at: &[String], name: &str, asked: &mut BTreeSet<(Names, String)>) -> Option<Found> {
        let module = self.modules.get(at)?;
        if module.children.contains(name) {
            return Some(Found::Module([at, &[name.to_owned()]].concat()));
        }
        if module.items.contains(name) {
            return Some(Found::Item(at.to_vec()));
        }
        if !asked.insert((at.to_vec(), name.to_owned())) {
            return None;
        }
        if let Some(import) = module.imports.get(name) {
            return self.resolve(at, import, asked);
        }
        module.globs.iter().find_map(|glob| match self.resolve(at, glob, asked)? {
            Found::Module(place) if place != at => self.in_module(&place, name, asked),
            _ => None,
        })
    }
}

/// Returns the short name of a file or folder of the sources: its path under `src`. The client's crate is the parts
/// `client` and `wire`.
pub fn short(path: &str) -> Option<String> {
    let Some(of_client) = path.strip_prefix(CLIENT) else { return path.strip_prefix("src/").map(str::to_owned) };
    let name = of_client.trim_start_matches('/');
    Some(match name {
        "lib.rs" => "client/mod.rs".to_owned(),
        name if name.starts_with("wire/") => name.to_owned(),
        name => format!("client/{name}"),
    })
}

/// Returns a path of the client's crate as it is in both crates together: the root of that crate is the part `client`,
/// and its `wire` is a part beside it. Other paths stay as they are.
fn absolute(at: &[String], path: &[String]) -> Names {
    let part = at.first().map_or("", String::as_str);
    let is_client = part == "client" || part == "wire";
    let up = path.iter().take_while(|name| *name == "super").count();
    let above = at.len() - usize::from(part == "client");
    let from_root = match path.first().map(String::as_str) {
        Some("cognate_client") => &path[1..],
        Some("crate") if is_client => &path[1..],
        Some("super") if is_client && up == above => &path[up..],
        Some("wire") if at == ["client"] => path,
        _ => return path.to_vec(),
    };
    let part = if from_root.first().is_some_and(|first| first == "wire") { None } else { Some("client".to_owned()) };
    ["crate".to_owned()].into_iter().chain(part).chain(from_root.iter().cloned()).collect()
}

/// Returns the module a::b for `a/b.rs` and `a/b/mod.rs`.
fn place(file: &str) -> Names {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" { Names::new() } else { stem.split('/').map(str::to_owned).collect() }
}

/// Returns the root's module that a file belongs to.
pub fn top_module(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            paths_in(&condition).iter().any(|path| path == &["test"]) && !condition.contains("not")
        }
        meta => meta.path().is_ident("test"),
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Returns the paths that a use declaration imports, each with its local name; `None` stands for a glob.
fn imports(tree: &UseTree, prefix: &mut Names, found: &mut Vec<(Names, Option<String>)>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            imports(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, prefix, found)),
        UseTree::Glob(_) => found.push((prefix.clone(), None)),
        UseTree::Name(_) | UseTree::Rename(_) => {
            let (name, renamed) = match tree {
                UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
                UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
                _ => return,
            };
            let mut path = prefix.clone();
            let own = path.last().cloned();
            // `a::{self}` is a.
            if name == "self" {
                let name = if renamed == "self" { own } else { Some(renamed) };
                found.push((path, name));
            } else {
                path.push(name);
                found.push((path, Some(renamed)));
            }
        }
    }
}

/// Finds the paths among tokens, as they are printed.
fn paths_in(tokens: &str) -> Vec<Names> {
    let mut paths: Vec<Names> = Vec::new();
    let mut characters = tokens.chars().peekable();
    // True if the next name continues the last path.
    let mut goes_on = false;
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                while let Some(inside) = characters.next() {
                    match inside {
                        '\\' => drop(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                goes_on = false;
            }
            ':' if characters.peek() == Some(&':') => {
                characters.next();
                goes_on = true;
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) = characters.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                match paths.last_mut() {
                    Some(path) if goes_on => path.push(word),
                    _ => paths.push(vec![word]),
                }
                goes_on = false;
            }
            c if c.is_whitespace() => {}
            _ => {
                // `<T>::name` is not a path to an item.
                goes_on = false;
                paths.push(Names::new());
            }
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// Fills the modules of one file.
struct Collector<'s> {
    file: &'s str,
    at: Names,
    modules: &'s mut BTreeMap<Names, Module>,
}

impl Collector<'_> {
    fn module(&mut self) -> &mut Module {
        self.modules.entry(self.at.clone()).or_default()
    }
}

impl<'c> Visit<'c> for Collector<'_> {
    fn visit_item(&mut self, item: &'c Item) {
        if let Some(name) = name(item) {
            self.module().items.insert(name);
        }
        match item {
            Item::Mod(inner) => {
                let name = inner.ident.to_string();
                self.module().children.insert(name.clone());
                self.at.push(name);
                self.module().is_test |= is_for_tests(&inner.attrs);
                if let Some((_, items)) = &inner.content {
                    self.module().file = self.file.to_owned();
                    items.iter().for_each(|item| self.visit_item(item));
                }
                self.at.pop();
            }
            Item::Use(declaration) => {
                let mut found = Vec::new();
                imports(&declaration.tree, &mut Names::new(), &mut found);
                for (path, name) in found {
                    match name {
                        Some(name) => drop(self.module().imports.insert(name, path)),
                        None => self.module().globs.push(path),
                    }
                }
            }
            _ => visit::visit_item(self, item),
        }
    }
}

/// Reads what one file names.
struct Reader<'s> {
    sources: &'s Sources,
    file: &'s str,
    at: Names,
    /// The number of surrounding scopes that are for tests.
    tests: usize,
    found: &'s mut BTreeSet<Reference>,
}

impl Reader<'_> {
    /// Records a path in code. `passed_on`: it stands in a `pub use`.
    fn note(&mut self, path: &[String], passed_on: bool) {
        let Some(found) = self.sources.resolve(&self.at, path, &mut BTreeSet::new()) else { return };
        let to = match found {
            Found::Crate(name) => Target::Crate(name),
            Found::Item(place) if !passed_on => Target::File(self.sources.modules[&place].file.clone()),
            Found::Item(_) | Found::Module(_) => Target::Signpost,
        };
        let module = self.root_module_of(path);
        // A single name that is not an import is a variable, or belongs to this file.
        if matches!(&to, Target::File(file) if file == self.file) || (to == Target::Signpost && module.is_none()) {
            return;
        }
        let (from, path) = (self.file.to_owned(), path.join("::"));
        self.found.insert(Reference { from, path, module, to, is_test: self.tests > 0 });
    }

    /// Returns the root's module that a path begins with.
    fn root_module_of(&self, path: &[String]) -> Option<String> {
        let path = &absolute(&self.at, path)[..];
        match path.first()?.as_str() {
            "crate" | "cognate" => path.get(1).cloned(),
            "super" => {
                let up = path.iter().take_while(|name| *name == "super").count();
                let place = &self.at[..self.at.len().checked_sub(up)?];
                place.first().or(path.get(up)).cloned()
            }
            // Without `crate`, only the root's own modules begin there.
            first if self.at.is_empty() && self.sources.modules[&self.at].children.contains(first) => {
                Some(first.to_owned())
            }
            _ => None,
        }
    }

    fn note_tokens(&mut self, tokens: &str) {
        paths_in(tokens).iter().for_each(|path| self.note(path, false));
    }

    fn within(&mut self, is_test: bool, visit: impl FnOnce(&mut Self)) {
        self.tests += usize::from(is_test);
        visit(self);
        self.tests -= usize::from(is_test);
    }
}

impl<'c> Visit<'c> for Reader<'_> {
    fn visit_item(&mut self, item: &'c Item) {
        self.within(is_for_tests(attributes(item)), |reader| match item {
            Item::Mod(inner) => {
                reader.at.push(inner.ident.to_string());
                visit::visit_item_mod(reader, inner);
                reader.at.pop();
            }
            Item::Use(declaration) => {
                let is_private = matches!(declaration.vis, Visibility::Inherited);
                let mut found = Vec::new();
                imports(&declaration.tree, &mut Names::new(), &mut found);
                for (mut path, name) in found {
                    if declaration.leading_colon.is_some() {
                        path.insert(0, "::".to_owned());
                    }
                    match name {
                        // A glob uses the module, whichever names it takes.
                        None if is_private => reader.note(&[path, vec!["*".to_owned()]].concat(), false),
                        _ => reader.note(&path, !is_private),
                    }
                }
            }
            _ => visit::visit_item(reader, item),
        });
    }

    fn visit_impl_item(&mut self, item: &'c ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Fn(method) => &method.attrs,
            ImplItem::Const(constant) => &constant.attrs,
            _ => &[],
        };
        self.within(is_for_tests(attributes), |reader| visit::visit_impl_item(reader, item));
    }

    fn visit_path(&mut self, path: &'c syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_none() {
            self.note(&names, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'c syn::Macro) {
        self.visit_path(&call.path);
        self.note_tokens(&call.tokens.to_string());
    }

    fn visit_attribute(&mut self, attribute: &'c Attribute) {
        if let Meta::List(list) = &attribute.meta
            && !["cfg", "derive", "allow", "expect"].iter().any(|name| list.path.is_ident(name))
        {
            self.note_tokens(&list.tokens.to_string());
        }
    }

    /// `pub(in crate::kernel)` uses nothing of the kernel.
    fn visit_vis_restricted(&mut self, _: &'c syn::VisRestricted) {}
}
