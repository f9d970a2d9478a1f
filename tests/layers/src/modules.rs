//! The modules of a crate: what each defines, imports and names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, Stmt, TraitItem, UseTree, Visibility};

use crate::items::{attributes, for_tests, item_name, path_attribute};

/// The modules of a crate. The first one is its root.
#[derive(Debug, Default)]
pub struct Tree {
    /// The files that have been read.
    pub files: Vec<PathBuf>,
    pub(crate) modules: Vec<Module>,
}

#[derive(Debug)]
pub(crate) struct Module {
    pub parent: Option<usize>,
    /// Index into [`Tree::files`]. An inline module is in the file of its parent.
    pub file: usize,
    /// One name may stand for a module, a function and a macro.
    pub names: BTreeMap<String, Vec<Definition>>,
    /// Paths of `use …::*`.
    pub globs: Vec<Vec<String>>,
    pub mentions: Vec<Mention>,
}

#[derive(Debug)]
pub(crate) enum Definition {
    Module(usize),
    /// An item of this file.
    Item(usize),
    Import(Vec<String>),
}

/// A path as it is written in the code.
#[derive(Debug)]
pub(crate) struct Mention {
    pub path: Vec<String>,
    pub line: usize,
    pub kind: MentionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MentionKind {
    Code,
    Import,
    /// `use …::*`; the path is that of the module.
    Glob,
}

impl Tree {
    /// Reads a crate from its root file (`lib.rs`, `main.rs`) on.
    ///
    /// # Errors
    ///
    /// A file cannot be read or parsed, or a `mod` leads to no file.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_file(root, None, Children::Beside)?;
        Ok(tree)
    }

    /// Reads a module's file and all below it; returns its index. `None`: the file is for tests.
    fn read_file(
        &mut self,
        path: &Path,
        parent: Option<usize>,
        children: Children,
    ) -> Result<Option<usize>> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let syntax = syn::parse_file(&text)
            .map_err(|e| anyhow::anyhow!("{}:{}: {e}", path.display(), e.span().start().line))?;
        if for_tests(&syntax.attrs) {
            return Ok(None);
        }
        let folder = path.parent().context("a file without a folder")?;
        let file = self.files.len();
        self.files.push(path.to_owned());
        let module = self.add(parent, file);
        let mut reader = Reader {
            module,
            file,
            beside: folder.to_owned(),
            below: match children {
                Children::Beside => folder.to_owned(),
                Children::Below => folder.join(path.file_stem().unwrap_or_default()),
            },
            nested: 0,
            error: None,
            tree: self,
        };
        reader.visit_file(&syntax);
        match reader.error {
            Some(error) => Err(error),
            None => Ok(Some(module)),
        }
    }

    fn add(&mut self, parent: Option<usize>, file: usize) -> usize {
        self.modules.push(Module {
            parent,
            file,
            names: BTreeMap::new(),
            globs: Vec::new(),
            mentions: Vec::new(),
        });
        self.modules.len() - 1
    }

    fn define(&mut self, module: usize, name: String, definition: Definition) {
        self.modules[module]
            .names
            .entry(name)
            .or_default()
            .push(definition);
    }
}

/// Where the files of a file's child modules are.
#[derive(Debug, Clone, Copy)]
enum Children {
    /// In its own folder: `lib.rs`, `main.rs`, `mod.rs`, and what `#[path]` names.
    Beside,
    /// In the folder with its name.
    Below,
}

/// Walks the syntax of one module.
struct Reader<'a> {
    tree: &'a mut Tree,
    module: usize,
    file: usize,
    /// What `#[path]` is relative to.
    beside: PathBuf,
    /// Where the files of child modules are.
    below: PathBuf,
    /// How many function bodies and the like the walk is in: items there have no path.
    nested: usize,
    error: Option<anyhow::Error>,
}

impl Reader<'_> {
    fn mention(&mut self, path: Vec<String>, line: usize, kind: MentionKind) {
        self.tree.modules[self.module]
            .mentions
            .push(Mention { path, line, kind });
    }

    fn child(&mut self, item: &syn::ItemMod) -> Result<()> {
        let name = item.ident.unraw().to_string();
        if let Some((_, items)) = &item.content {
            let child = self.tree.add(Some(self.module), self.file);
            self.tree
                .define(self.module, name.clone(), Definition::Module(child));
            let below = self.below.join(&name);
            let mut inner = Reader {
                tree: self.tree,
                module: child,
                file: self.file,
                beside: below.clone(),
                below,
                nested: 0,
                error: None,
            };
            for item in items {
                inner.visit_item(item);
            }
            return inner.error.map_or(Ok(()), Err);
        }
        let (path, children) = if let Some(path) = path_attribute(&item.attrs) {
            (self.beside.join(path), Children::Beside)
        } else {
            let flat = self.below.join(format!("{name}.rs"));
            let folder = self.below.join(&name).join("mod.rs");
            match (flat.is_file(), folder.is_file()) {
                (true, _) => (flat, Children::Below),
                (false, true) => (folder, Children::Beside),
                (false, false) => bail!(
                    "`mod {name}` leads to no file: {} is not there",
                    flat.display()
                ),
            }
        };
        if let Some(child) = self.tree.read_file(&path, Some(self.module), children)? {
            self.tree
                .define(self.module, name, Definition::Module(child));
        }
        Ok(())
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], private: bool) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => {
                self.import(&path.tree, &with(path.ident.unraw().to_string()), private);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, prefix, private);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = prefix.last().cloned() {
                    self.import_as(prefix.to_vec(), Some(last), name.span(), private);
                }
            }
            UseTree::Name(name) => {
                let ident = name.ident.unraw().to_string();
                self.import_as(with(ident.clone()), Some(ident), name.span(), private);
            }
            UseTree::Rename(rename) => {
                let path = if rename.ident == "self" {
                    prefix.to_vec()
                } else {
                    with(rename.ident.unraw().to_string())
                };
                let name = (rename.rename != "_").then(|| rename.rename.unraw().to_string());
                self.import_as(path, name, rename.span(), private);
            }
            UseTree::Glob(glob) => {
                self.tree.modules[self.module].globs.push(prefix.to_vec());
                if private {
                    let line = glob.span().start().line;
                    self.mention(prefix.to_vec(), line, MentionKind::Glob);
                }
            }
        }
    }

    fn import_as(
        &mut self,
        path: Vec<String>,
        name: Option<String>,
        span: proc_macro2::Span,
        private: bool,
    ) {
        if private {
            self.mention(path.clone(), span.start().line, MentionKind::Import);
        }
        if let Some(name) = name {
            self.tree
                .define(self.module, name, Definition::Import(path));
        }
    }

    /// Finds paths of two or more words in what a macro is given.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.unraw().to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct)
                    if punct.as_char() == ':' && !path.is_empty() && colons < 2 =>
                {
                    colons += 1;
                    continue;
                }
                other => {
                    self.path_in_macro(&mut path, line);
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => {
                            line = ident.span().start().line;
                            path.push(ident.unraw().to_string());
                        }
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.path_in_macro(&mut path, line);
    }

    fn path_in_macro(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.mention(path, line, MentionKind::Code);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if for_tests(attributes(item)) {
            return;
        }
        if self.nested == 0
            && let Some(name) = item_name(item)
        {
            let definition = Definition::Item(self.file);
            self.tree.define(self.module, name, definition);
        }
        match item {
            Item::Mod(module) => {
                if let Err(error) = self.child(module) {
                    self.error.get_or_insert(error);
                }
            }
            Item::Use(item) => {
                if item.leading_colon.is_none() {
                    self.import(&item.tree, &[], matches!(item.vis, Visibility::Inherited));
                }
            }
            Item::Macro(item) => {
                if let Some(ident) = &item.ident
                    && item.attrs.iter().any(|a| a.path().is_ident("macro_export"))
                {
                    self.tree
                        .define(0, ident.unraw().to_string(), Definition::Item(self.file));
                }
                visit::visit_item_macro(self, item);
            }
            _ => {
                self.nested += 1;
                visit::visit_item(self, item);
                self.nested -= 1;
            }
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attrs = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &vec![],
        };
        if !for_tests(attrs) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attrs = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => &vec![],
        };
        if !for_tests(attrs) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attrs = match statement {
            Stmt::Local(local) => &local.attrs,
            Stmt::Macro(call) => &call.attrs,
            Stmt::Expr(Expr::Block(block), _) => &block.attrs,
            Stmt::Expr(Expr::If(branch), _) => &branch.attrs,
            Stmt::Expr(Expr::Call(call), _) => &call.attrs,
            Stmt::Expr(Expr::MethodCall(call), _) => &call.attrs,
            _ => &vec![],
        };
        if !for_tests(attrs) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !for_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_field_value(&mut self, value: &'ast syn::FieldValue) {
        if !for_tests(&value.attrs) {
            visit::visit_field_value(self, value);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !for_tests(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path
                .segments
                .iter()
                .map(|s| s.ident.unraw().to_string())
                .collect();
            self.mention(names, path.span().start().line, MentionKind::Code);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    // Neither names what its file depends on.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
