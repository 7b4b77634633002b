//! All mutants of a file in one text, each behind a switch: compiled once instead of once per mutant.
//!
//! The place of a mutant becomes `(if on(7) { mutated } else { original })`. The mutated branch is the source as it
//! stands with the mutant's replacement in it, textually, as cargo-mutants would write it; mutants of places inside
//! are only in the original branch, so the text does not explode.
use super::list::Mutant;
use anyhow::{Context as _, Result};
use std::{collections::BTreeSet, ops::Range};
use syn::{
    BinOp, Block, Expr, ReturnType, Signature, Stmt,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// A mutated file, and where each mutant is in it.
pub struct Schemata {
    pub text: String,
    /// Of each mutant by number: its branch.
    branches: Vec<(Range<usize>, u32)>,
    /// Of each rewritten place: the whole, and its mutants.
    places: Vec<(Range<usize>, Vec<u32>)>,
    /// Mutants that put `||` into a chain of `&&` with a `let`, which is no Rust.
    pub unviable: Vec<u32>,
    /// Mutants of functions that constants are made with: no switch can be there.
    pub alone: Vec<u32>,
}

/// How an expression stands in its surroundings.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Part of another expression.
    Inner,
    /// A statement, or the end of a block.
    Statement,
    /// What an arm of a `match` gives.
    Arm,
    /// The statements of a function; with the trait that it says it returns.
    Body(Option<usize>),
}

struct Place {
    range: Range<usize>,
    form: Form,
}

/// Finds the places where a branch can stand.
#[derive(Default)]
struct Places<'a> {
    keep_const: Option<&'a BTreeSet<String>>,
    found: Vec<Place>,
    form: Option<Form>,
    /// Ends of `&&` chains with a `let` in them.
    chains: Vec<Range<usize>>,
    /// Types behind `impl` that functions return.
    returned: Vec<Range<usize>>,
    /// `const` of functions that is taken away.
    consts: Vec<Range<usize>>,
    closed: Vec<Range<usize>>,
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl Places<'_> {
    fn function(&mut self, signature: &Signature, block: &Block) {
        if let Some(constant) = &signature.constness {
            if self.keep_const.is_some_and(|keep| keep.contains(&signature.ident.to_string())) {
                self.closed.push(block.span().byte_range());
            } else {
                self.consts.push(constant.span().byte_range());
            }
        }
        let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) else { return };
        let mut returned = None;
        if let ReturnType::Type(_, kind) = &signature.output
            && let syn::Type::ImplTrait(kind) = &**kind
        {
            returned = Some(self.returned.len());
            self.returned.push(kind.bounds.span().byte_range());
        }
        let range = first.span().byte_range().start..last.span().byte_range().end;
        self.found.push(Place { range, form: Form::Body(returned) });
    }

    fn binary_inside(&mut self, binary: &syn::ExprBinary) {
        // A replaced operator may bind less: the whole chain of operators is one place, its operands are others.
        for side in [&binary.left, &binary.right] {
            match &**side {
                Expr::Binary(inner) => self.binary_inside(inner),
                other => self.visit_expr(other),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Places<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.visit_block(&item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.visit_block(&item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
            self.visit_block(block);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expr, _) = statement {
            self.form = Some(Form::Statement);
            return self.visit_expr(expr);
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.visit_expr(guard);
        }
        self.form = Some(Form::Arm);
        self.visit_expr(&arm.body);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.visit_expr(&init.expr);
            if let Some((_, diverge)) = &init.diverge {
                // The block of `let … else` is no expression that a branch could replace.
                visit::visit_expr(self, diverge);
            }
        }
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        self.visit_expr(&branch.cond);
        self.visit_block(&branch.then_branch);
        if let Some((_, other)) = &branch.else_branch {
            visit::visit_expr(self, other);
        }
    }

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        let form = self.form.take().unwrap_or(Form::Inner);
        let range = expr.span().byte_range();
        match expr {
            Expr::Binary(binary) if has_let(expr) && matches!(binary.op, BinOp::And(_)) => {
                self.chains.push(range);
                self.visit_expr(&binary.left);
                self.visit_expr(&binary.right);
            }
            Expr::Let(condition) => self.visit_expr(&condition.expr),
            Expr::Binary(binary) => {
                self.found.push(Place { range, form });
                self.binary_inside(binary);
            }
            _ => {
                self.found.push(Place { range, form });
                visit::visit_expr(self, expr);
            }
        }
    }
}

/// One place with the mutants that are switched there.
struct Wrap<'a> {
    range: Range<usize>,
    form: Form,
    mutants: Vec<&'a Mutant>,
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// `source` with `mutants`; functions in `keep_const` are used in constants, where no switch can be.
pub fn rewrite(source: &str, mutants: &[&Mutant], keep_const: &BTreeSet<String>) -> Result<Schemata> {
    let file = syn::parse_file(source).context("not Rust")?;
    let mut places = Places { keep_const: Some(keep_const), ..Places::default() };
    places.visit_file(&file);
    let mut schemata =
        Schemata { text: String::new(), branches: vec![], places: vec![], unviable: vec![], alone: vec![] };
    let mut wraps: Vec<Wrap> = Vec::new();
    for mutant in mutants {
        let range = mutant.range(source);
        let is_body = mutant.genre == "FnValue";
        let fits = |place: &&Place| within(&range, &place.range) && is_body == matches!(place.form, Form::Body(_));
        let place = places.found.iter().filter(fits).min_by_key(|place| place.range.len());
        let chain = places.chains.iter().filter(|chain| within(&range, chain)).min_by_key(|chain| chain.len());
        let Some(place) = place.filter(|place| chain.is_none_or(|chain| is_body || within(&place.range, chain))) else {
            schemata.unviable.push(mutant.number);
            continue;
        };
        if places.closed.iter().any(|closed| within(&range, closed)) {
            schemata.alone.push(mutant.number);
            continue;
        }
        match wraps.iter_mut().find(|wrap| wrap.range == place.range && wrap.form == place.form) {
            Some(wrap) => wrap.mutants.push(mutant),
            None => wraps.push(Wrap { range: place.range.clone(), form: place.form, mutants: vec![mutant] }),
        }
    }
    // Outer before inner; a body before the expression that is all of it.
    wraps.sort_by_key(|wrap| (wrap.range.start, usize::MAX - wrap.range.end, !matches!(wrap.form, Form::Body(_))));
    let mut writer = Writer { source, wraps: &wraps, places: &places, out: &mut schemata };
    writer.write(0..source.len(), 0..wraps.len());
    Ok(schemata)
}

struct Writer<'a> {
    source: &'a str,
    wraps: &'a [Wrap<'a>],
    places: &'a Places<'a>,
    out: &'a mut Schemata,
}

impl Writer<'_> {
    fn plain(&mut self, range: Range<usize>) {
        let mut at = range.start;
        for constant in self.places.consts.iter().filter(|constant| within(constant, &range)) {
            self.out.text.push_str(&self.source[at..constant.start]);
            at = constant.end;
        }
        self.out.text.push_str(&self.source[at..range.end]);
    }

    /// Writes a range of the source with the wraps numbered so, which lie in it.
    fn write(&mut self, range: Range<usize>, wraps: Range<usize>) {
        let (mut at, mut index) = (range.start, wraps.start);
        while index < wraps.end {
            let wrap = &self.wraps[index];
            let inside = (index + 1..wraps.end).take_while(|other| within(&self.wraps[*other].range, &wrap.range));
            let end = index + 1 + inside.count();
            self.plain(at..wrap.range.start);
            self.wrap(index, end);
            (at, index) = (wrap.range.end, end);
        }
        self.plain(at..range.end);
    }

    fn wrap(&mut self, index: usize, end: usize) {
        let wrap = &self.wraps[index];
        let begun = self.out.text.len();
        match wrap.form {
            Form::Body(returned) => {
                let boxed = returned.map(|at| &self.source[self.places.returned[at].clone()]);
                let boxed = boxed.map(|bounds| format!(" as Box<dyn {bounds} + '_>"));
                for mutant in &wrap.mutants {
                    self.out.text.push_str(&format!("if crate::mutation::on({}) {{ return ", mutant.number));
                    match &boxed {
                        Some(boxed) => self.branch(mutant.number, &format!("Box::new({}){boxed}", mutant.replacement)),
                        None => self.branch(mutant.number, &mutant.replacement),
                    }
                    self.out.text.push_str("; } ");
                }
                self.out.text.push_str(if boxed.is_some() { "Box::new({" } else { "" });
                self.write(wrap.range.clone(), index + 1..end);
                self.out.text.push_str(&boxed.map_or(String::new(), |boxed| format!("}}){boxed}")));
            }
            form => {
                let (open, close) = match form {
                    Form::Statement => ("", ""),
                    Form::Arm => ("{ ", " }"),
                    _ => ("(", ")"),
                };
                self.out.text.push_str(open);
                for mutant in &wrap.mutants {
                    let range = mutant.range(self.source);
                    let text = format!(
                        "{} {} {}",
                        &self.source[wrap.range.start..range.start],
                        mutant.replacement,
                        &self.source[range.end..wrap.range.end]
                    );
                    self.out.text.push_str(&format!("if crate::mutation::on({}) {{ ", mutant.number));
                    self.branch(mutant.number, &text);
                    self.out.text.push_str(" } else ");
                }
                self.out.text.push_str("{ ");
                self.write(wrap.range.clone(), index + 1..end);
                self.out.text.push_str(" }");
                self.out.text.push_str(close);
            }
        }
        let numbers = wrap.mutants.iter().map(|mutant| mutant.number).collect();
        self.out.places.push((begun..self.out.text.len(), numbers));
    }

    fn branch(&mut self, number: u32, text: &str) {
        let begun = self.out.text.len();
        self.out.text.push_str(text);
        self.out.branches.push((begun..self.out.text.len(), number));
    }
}

impl Schemata {
    /// The mutant in whose branch this is.
    pub fn branch_at(&self, at: usize) -> Option<u32> {
        let around = self.branches.iter().filter(|(range, _)| range.contains(&at));
        around.min_by_key(|(range, _)| range.len()).map(|(_, number)| *number)
    }

    /// The mutants of the innermost rewritten place around this.
    pub fn place_at(&self, at: usize) -> Option<&[u32]> {
        let around = self.places.iter().filter(|(range, _)| range.contains(&at));
        around.min_by_key(|(range, _)| range.len()).map(|(_, numbers)| numbers.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(source: &str, number: u32, original: &str, replacement: &str, genre: &str) -> Mutant {
        let start = source.find(original).expect("in the source");
        let position = |at: usize| super::super::list::Position {
            line: source[..at].matches('\n').count() + 1,
            column: source[..at].chars().rev().take_while(|char| *char != '\n').count() + 1,
        };
        let span = super::super::list::Span { start: position(start), end: position(start + original.len()) };
        let (name, file) = (String::new(), String::new());
        Mutant { number, name, file, span, replacement: replacement.into(), genre: genre.into() }
    }

    fn rewritten(source: &str, mutants: &[Mutant]) -> String {
        let mutants: Vec<&Mutant> = mutants.iter().collect();
        rewrite(source, &mutants, &BTreeSet::new()).expect("Rust").text
    }

    #[test]
    fn a_replaced_operator_binds_as_it_would_in_the_text() {
        let source = "fn f(a: bool, b: bool, c: bool) -> bool { a && b && c }";
        let text = rewritten(source, &[mutant(source, 7, "&&", "||", "BinaryOperator")]);
        assert!(text.contains("if crate::mutation::on(7) { a  ||  b && c } else { a && b && c }"), "{text}");
    }

    #[test]
    fn a_body_is_left_before_it_begins_and_operators_in_it_are_switched_too() {
        let source = "const fn f(a: u32) -> u32 { g(a + 1) }";
        let mutants = [mutant(source, 0, "g(a + 1)", "0", "FnValue"), mutant(source, 1, "+", "*", "BinaryOperator")];
        let text = rewritten(source, &mutants);
        let inner = "g((if crate::mutation::on(1) { a  *  1 } else { a + 1 }))";
        assert_eq!(text, format!(" fn f(a: u32) -> u32 {{ if crate::mutation::on(0) {{ return 0; }} {inner} }}"));
    }

    #[test]
    fn an_operator_of_a_chain_with_let_has_no_place() {
        let source = "fn f(a: Maybe) -> bool { if let Some(b) = a && b < 3 { true } else { false } }";
        let mutants = [mutant(source, 0, "&&", "||", "BinaryOperator"), mutant(source, 1, "<", ">", "BinaryOperator")];
        let given: Vec<&Mutant> = mutants.iter().collect();
        let schemata = rewrite(source, &given, &BTreeSet::new()).expect("Rust");
        assert_eq!(schemata.unviable, [0]);
        let at = schemata.text.find("b  >  3").expect("the other one");
        assert_eq!((schemata.branch_at(at), schemata.place_at(at - 20)), (Some(1), Some(&[1][..])));
    }
}
