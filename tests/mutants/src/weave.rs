//! Many mutants in one build: each is there behind a question, `crate::mutant(7)`, which one of them answers with yes.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{Block, Expr, ExprMatch, ExprStruct, Pat, ReturnType, Signature, Type, parse_quote};

/// A mutant as `cargo mutants --list --json` has it.
#[derive(Debug, Clone)]
pub struct Mutant {
    pub id: u32,
    pub name: String,
    pub file: String,
    pub genre: String,
    /// Line and column, both from 1 on.
    pub start: (usize, usize),
    pub replacement: String,
}

/// What answers the questions, at the end of the crate.
pub const ANSWER: &str = r#"
#[doc(hidden)]
#[inline(never)]
pub fn mutant(id: u32) -> bool {
    static CHOSEN: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("MAST_MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(0));
    *CHOSEN == id
}
"#;

/// The text of a file with the mutants in it, and which of them found their place.
pub fn weave(text: &str, mutants: &[Mutant]) -> syn::Result<(String, BTreeSet<u32>)> {
    let mut file = syn::parse_file(text)?;
    let mut wanted: HashMap<_, Vec<&Mutant>> = HashMap::new();
    for mutant in mutants {
        wanted.entry((mutant.genre.as_str(), mutant.start)).or_default().push(mutant);
    }
    let mut weaver = Weaver { wanted, woven: BTreeSet::new() };
    weaver.visit_file_mut(&mut file);
    Ok((file.into_token_stream().to_string(), weaver.woven))
}

/// Where in a woven text each mutant lies, in bytes.
pub fn places(text: &str) -> syn::Result<Vec<(u32, Range<usize>)>> {
    struct Places(Vec<(u32, Range<usize>)>);
    impl<'a> Visit<'a> for Places {
        fn visit_expr_if(&mut self, expr: &'a syn::ExprIf) {
            if let Some(id) = question(&expr.cond) {
                self.0.push((id, expr.then_branch.span().byte_range()));
            }
            visit::visit_expr_if(self, expr);
        }
    }
    let file = syn::parse_file(text)?;
    let mut places = Places(Vec::new());
    places.visit_file(&file);
    Ok(places.0)
}

/// The number in `crate::mutant(7)`.
fn question(expr: &Expr) -> Option<u32> {
    let Expr::Call(call) = expr else { return None };
    let Expr::Path(path) = &*call.func else { return None };
    let Some(Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(id), .. })) = call.args.first() else { return None };
    (path.path.segments.last()?.ident == "mutant").then(|| id.base10_parse().ok()).flatten()
}

struct Weaver<'a> {
    wanted: HashMap<(&'a str, (usize, usize)), Vec<&'a Mutant>>,
    woven: BTreeSet<u32>,
}

impl<'a> Weaver<'a> {
    fn at(&self, genre: &'static str, span: Span) -> Vec<&'a Mutant> {
        let start = span.start();
        self.wanted.get(&(genre, (start.line, start.column + 1))).cloned().unwrap_or_default()
    }

    fn function(&mut self, signature: &Signature, block: &mut Block) {
        let mutants = block.stmts.first().map(|first| self.at("FnValue", first.span())).unwrap_or_default();
        visit_mut::visit_block_mut(self, block);
        // What a function returns without naming it is one type.
        let hidden = matches!(&signature.output, ReturnType::Type(_, kind) if matches!(**kind, Type::ImplTrait(_) | Type::Never(_)));
        for mutant in mutants.into_iter().filter(|_| !hidden) {
            let (id, Ok(value)) = (mutant.id, syn::parse_str::<Expr>(&mutant.replacement)) else { continue };
            block.stmts.insert(0, parse_quote!(if crate::mutant(#id) { return #value; }));
            self.woven.insert(id);
        }
    }

    fn matched(&mut self, expr: &mut ExprMatch) {
        // Without this arm, something else has to take what it took.
        let open = expr.arms.iter().any(|arm| arm.guard.is_none() && matches!(arm.pat, Pat::Wild(_)));
        let found: Vec<_> = expr
            .arms
            .iter()
            .map(|arm| {
                let guards = arm.guard.as_ref().map(|(_, guard)| self.at("MatchArmGuard", guard.span()));
                (self.at("MatchArm", arm.span()), guards.unwrap_or_default())
            })
            .collect();
        visit_mut::visit_expr_match_mut(self, expr);
        for (arm, (deleted, guards)) in expr.arms.iter_mut().zip(found) {
            for mutant in guards {
                let (id, Ok(value)) = (mutant.id, syn::parse_str::<Expr>(&mutant.replacement)) else {
                    continue;
                };
                if let Some((_, guard)) = &mut arm.guard {
                    **guard = parse_quote!((if crate::mutant(#id) { #value } else { #guard }));
                    self.woven.insert(id);
                }
            }
            for mutant in deleted.into_iter().filter(|_| open) {
                let id = mutant.id;
                let rest: Expr = arm.guard.take().map_or_else(|| parse_quote!(true), |(_, guard)| *guard);
                arm.guard = Some((
                    Default::default(),
                    parse_quote!((if crate::mutant(#id) { false } else { #rest })),
                ));
                self.woven.insert(id);
            }
        }
    }

    fn made(&mut self, expr: &mut ExprStruct) -> Option<Expr> {
        let found: Vec<_> = expr.fields.iter().map(|field| self.at("StructField", field.span())).collect();
        visit_mut::visit_expr_struct_mut(self, expr);
        let mut whole: Option<Expr> = None;
        for (place, mutant) in
            found.iter().enumerate().flat_map(|(place, all)| all.iter().map(move |m| (place, m)))
        {
            let mut less = expr.clone();
            let kept =
                less.fields.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, field)| field.clone());
            less.fields = kept.collect();
            let (id, rest) = (mutant.id, whole.take().unwrap_or_else(|| Expr::Struct(expr.clone())));
            whole = Some(parse_quote!((if crate::mutant(#id) { #less } else { #rest })));
            self.woven.insert(id);
        }
        whole
    }
}

/// `let` in a condition cannot be put into parentheses.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl VisitMut for Weaver<'_> {
    fn visit_item_const_mut(&mut self, _: &mut syn::ItemConst) {}
    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}
    fn visit_item_static_mut(&mut self, _: &mut syn::ItemStatic) {}
    fn visit_type_mut(&mut self, _: &mut Type) {}

    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        self.function(&item.sig.clone(), &mut item.block);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        self.function(&item.sig.clone(), &mut item.block);
    }

    fn visit_trait_item_fn_mut(&mut self, item: &mut syn::TraitItemFn) {
        if let Some(block) = &mut item.default {
            self.function(&item.sig.clone(), block);
        }
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Match(expr) => return self.matched(expr),
            Expr::Struct(made) => {
                if let Some(other) = self.made(made) {
                    *expr = other;
                }
                return;
            }
            Expr::Binary(binary) if !has_let(&Expr::Binary(binary.clone())) => {
                let mutants = self.at("BinaryOperator", binary.op.span());
                visit_mut::visit_expr_binary_mut(self, binary);
                let (left, right) = (binary.left.clone(), binary.right.clone());
                for mutant in mutants {
                    let (id, Ok(op)) = (mutant.id, syn::parse_str::<syn::BinOp>(&mutant.replacement)) else {
                        continue;
                    };
                    *expr = parse_quote!((if crate::mutant(#id) { #left #op #right } else { #expr }));
                    self.woven.insert(id);
                }
                return;
            }
            Expr::Unary(unary) => {
                let mutants = self.at("UnaryOperator", unary.op.span());
                visit_mut::visit_expr_unary_mut(self, unary);
                let inner = unary.expr.clone();
                for mutant in mutants {
                    let id = mutant.id;
                    *expr = parse_quote!((if crate::mutant(#id) { #inner } else { #expr }));
                    self.woven.insert(id);
                }
                return;
            }
            _ => {}
        }
        visit_mut::visit_expr_mut(self, expr);
    }
}
