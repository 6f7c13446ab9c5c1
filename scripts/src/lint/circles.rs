//! Circles between the modules of a crate.
//!
//! Modules that have the same parent form a graph: one needs another when a file in it, at any
//! depth, names something in the other. In no such graph may there be a circle. Of a parent and
//! what is in it, each may need the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::lint::modules::{ModulePath, Modules};

/// References shown of each edge.
const SHOWN: usize = 3;

/// Where one module needs another: `file:line`, in order.
type Edges = BTreeMap<(String, String), Vec<String>>;

/// Modules that need each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Circle {
    /// Their parent; empty for the crate's root.
    pub parent: ModulePath,
    /// The shortest way round, without the first module again at its end.
    pub path: Vec<String>,
    /// All that need each other by this circle and others.
    pub members: BTreeSet<String>,
    /// Who needs whom on the way round, and where.
    pub edges: Edges,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = if self.parent.is_empty() { "crate".to_owned() } else { self.parent.join("::") };
        let first = self.path.first().map_or("", String::as_str);
        write!(f, "in {parent}: {} -> {first}", self.path.join(" -> "))?;
        for ((from, to), places) in &self.edges {
            let shown = places.get(..SHOWN).unwrap_or(places).join(" ");
            write!(f, "\n    {from} needs {to}: {shown}")?;
            if places.len() > SHOWN {
                write!(f, " and {} more", places.len() - SHOWN)?;
            }
        }
        if self.members.len() > self.path.len() {
            let members: Vec<&str> = self.members.iter().map(String::as_str).collect();
            write!(f, "\n    with others all of these need each other: {}", members.join(", "))?;
        }
        Ok(())
    }
}

/// Every circle between modules of a crate.
#[must_use]
pub fn find(modules: &Modules) -> Vec<Circle> {
    let mut graphs: BTreeMap<ModulePath, Edges> = BTreeMap::new();
    for (path, module) in &modules.all {
        for reference in &module.references {
            let Some(target) = modules.resolve(path, &reference.segments) else { continue };
            let common = path.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (path.get(common), target.get(common)) {
                let edges = graphs.entry(path[..common].to_vec()).or_default();
                let place = format!("{}:{}", module.file.display(), reference.line);
                let places = edges.entry((from.clone(), to.clone())).or_default();
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
    }
    graphs.into_iter().flat_map(|(parent, edges)| circles_of(&parent, &edges)).collect()
}

/// The circles of one graph, one for all modules that need each other.
fn circles_of(parent: &ModulePath, edges: &Edges) -> Vec<Circle> {
    let names: BTreeSet<&String> = edges.keys().map(|(from, _)| from).collect();
    let mut circles: Vec<Circle> = Vec::new();
    for name in &names {
        if circles.iter().any(|circle| circle.members.contains(*name)) {
            continue;
        }
        let both_ways =
            |other: &&&String| way(name, other, edges).is_some() && way(other, name, edges).is_some();
        let members: BTreeSet<String> = names.iter().filter(both_ways).map(|name| (*name).clone()).collect();
        let round = |member: &String| way(member, member, edges);
        let Some(path) = members.iter().filter_map(round).min_by_key(Vec::len) else { continue };
        let next = path.iter().skip(1).chain(path.first());
        let on_it = path.iter().zip(next).map(|(from, to)| (from.clone(), to.clone()));
        let edges = on_it.filter_map(|edge| Some((edge.clone(), edges.get(&edge)?.clone()))).collect();
        circles.push(Circle { parent: parent.clone(), path, members, edges });
    }
    circles
}

/// The shortest way of one edge or more from `start` to `end`, without its end.
fn way(start: &String, end: &String, edges: &Edges) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let at = *way.last()?;
        for (_, to) in edges.keys().filter(|(from, _)| from == at) {
            if to == end {
                return Some(way.into_iter().cloned().collect());
            }
            if seen.insert(to) {
                ways.push_back([&*way, &[to]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::modules::tests::of;

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        find(&of(files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_circle_of_folders_is_named_with_the_lines_of_its_edges() {
        let told = told(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a/mod.rs", "mod one; mod two;"),
            ("a/one.rs", "\nuse crate::b::B;"),
            ("a/two.rs", "fn f(b: crate::b::B) { b::g(); crate::b::g() }\nuse crate::c;"),
            ("b.rs", "fn g() {\n    println!(\"{}\", crate::a::one::N);\n}"),
            ("c.rs", ""),
        ]);
        let wanted = "in crate: a -> b -> a\n    a needs b: a/one.rs:2 a/two.rs:1\n    b needs a: b.rs:2";
        assert_eq!(told, [wanted]);
    }

    #[test]
    fn a_circle_of_files_in_a_folder_is_found_also_through_their_parents_names() {
        let told = told(&[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod one; mod two; mod three; pub use three::Three;"),
            ("a/one.rs", "use super::two::Two;"),
            ("a/two.rs", "use super::Three;"),
            ("a/three.rs", "use crate::a::one;"),
        ]);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("in a: one -> two -> three -> one\n    one needs two: a/one.rs:1"),
            "{told:?}"
        );
    }

    #[test]
    fn two_circles_of_one_graph_are_told_apart() {
        let circles = find(&of(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b;"),
            ("b.rs", "use crate::a; use crate::c;"),
            ("c.rs", "use crate::d;"),
            ("d.rs", "use crate::c;"),
        ]));
        let members: Vec<Vec<&str>> =
            circles.iter().map(|circle| circle.members.iter().map(String::as_str).collect()).collect();
        assert_eq!(members, [["a", "b"], ["c", "d"]]);
        assert_eq!(circles[0].edges.len(), 2);
    }

    #[test]
    fn of_many_that_need_each_other_the_shortest_way_round_is_told() {
        let told = told(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b;"),
            ("b.rs", "use crate::c;"),
            ("c.rs", "use crate::{a, d};"),
            ("d.rs", "use crate::c;"),
        ]);
        let wanted = "in crate: c -> d -> c\n    c needs d: c.rs:1\n    d needs c: d.rs:1\n    \
                      with others all of these need each other: a, b, c, d";
        assert_eq!(told, [wanted]);
    }

    #[test]
    fn a_parent_and_its_own_child_may_need_each_other_and_tests_anybody() {
        let told = told(&[
            ("lib.rs", "mod a; mod b; pub const N: u8 = a::one::ONE;"),
            ("a/mod.rs", "pub mod one; use one::ONE; pub const TWO: u8 = ONE;"),
            ("a/one.rs", "use super::TWO; use crate::b; use crate::N;"),
            ("b.rs", "#[cfg(test)]\nmod tests { use crate::a; }\n#[cfg(test)]\nuse crate::a;"),
        ]);
        assert!(told.is_empty(), "{told:?}");
    }
}
