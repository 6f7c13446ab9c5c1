//! How deep `if`, `match` and loops stand in each other.

use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprForLoop, ExprIf, ExprLoop, ExprMatch, ExprWhile, Item};

/// The depth of a function's body: 0 without any of them. An `else if` is as deep as its `if`.
#[must_use]
pub fn of(body: &Block) -> usize {
    let mut depth = Depth::default();
    depth.visit_block(body);
    depth.most
}

#[derive(Default)]
struct Depth {
    now: usize,
    most: usize,
}

impl Depth {
    fn deeper(&mut self, visit: impl FnOnce(&mut Self)) {
        self.now += 1;
        self.most = self.most.max(self.now);
        visit(self);
        self.now -= 1;
    }
}

impl<'ast> Visit<'ast> for Depth {
    fn visit_expr_if(&mut self, expr: &'ast ExprIf) {
        self.deeper(|this| {
            this.visit_expr(&expr.cond);
            this.visit_block(&expr.then_branch);
        });
        match expr.else_branch.as_ref().map(|(_, otherwise)| &**otherwise) {
            Some(Expr::If(next)) => self.visit_expr_if(next),
            Some(otherwise) => self.deeper(|this| this.visit_expr(otherwise)),
            None => {}
        }
    }

    fn visit_expr_match(&mut self, expr: &'ast ExprMatch) {
        self.deeper(|this| visit::visit_expr_match(this, expr));
    }

    fn visit_expr_while(&mut self, expr: &'ast ExprWhile) {
        self.deeper(|this| visit::visit_expr_while(this, expr));
    }

    fn visit_expr_for_loop(&mut self, expr: &'ast ExprForLoop) {
        self.deeper(|this| visit::visit_expr_for_loop(this, expr));
    }

    fn visit_expr_loop(&mut self, expr: &'ast ExprLoop) {
        self.deeper(|this| visit::visit_expr_loop(this, expr));
    }

    /// A function within a function has its own depth.
    fn visit_item(&mut self, _: &'ast Item) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(body: &str) -> usize {
        of(&syn::parse_str(&format!("{{ {body} }}")).unwrap())
    }

    #[test]
    fn what_stands_in_each_other_is_counted() {
        assert_eq!(depth("let x = 1; f(|| { x });"), 0);
        assert_eq!(depth("if a {} else { b() }"), 1);
        assert_eq!(depth("for x in y { while z { loop { match w { _ => if v {} } } } }"), 5);
        assert_eq!(depth("f(|| if a { match b { _ => 1 } } else { 2 });"), 2);
    }

    #[test]
    fn an_else_if_is_as_deep_as_its_if_and_an_inner_function_is_not_counted() {
        assert_eq!(depth("if a {} else if b {} else if c { if d {} }"), 2);
        assert_eq!(depth("if a { fn f() { if b { if c {} } } }"), 1);
    }
}
