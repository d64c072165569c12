//! Every node of a world, and what is wrong with it.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::world::{Explored, Node, What, World};

/// What was found out about a world in which nothing is wrong.
pub(super) struct Report {
    /// How many moments it has.
    pub(super) nodes: usize,
    /// The races that a checkout lost, each with what it asked for and why that was refused.
    pub(super) races: BTreeSet<Rc<str>>,
    /// How the orders may end: their statuses, in the order of the world.
    pub(super) ends: BTreeSet<String>,
}

/// Goes wherever the world can go.
///
/// # Panics
/// When a refusal is unforeseen, a moment is not as it should be, a rest leaves something undone, or no way leads on from
/// somewhere to where everything is over; with the way that led there.
pub(super) fn explore(world: World) -> Report {
    let (mut explored, first) = Explored::begin(world);
    let first = Rc::new(first);
    let mut numbers = HashMap::from([(Rc::clone(&first), 0_usize)]);
    let mut nodes = vec![first];
    let mut came_by: Vec<Option<(usize, What)>> = vec![None];
    let mut came_from: Vec<Vec<u32>> = vec![vec![]];
    let (mut over, mut ends) = (Vec::new(), BTreeSet::new());
    let mut next = 0;
    while let Some(node) = nodes.get(next).cloned() {
        let wrong = |explored: &Explored, what: Option<What>, wrong: &str| -> ! {
            panic!("{wrong}\n{}", way(explored, &nodes, &came_by, next, what))
        };
        if let Err(why) = explored.check(&node) {
            wrong(&explored, None, &why);
        }
        let moves = match explored.moves(&node) {
            Ok(moves) => moves,
            Err((what, why)) => wrong(&explored, Some(what), &why),
        };
        if !moves.iter().any(|r#move| r#move.is_due) {
            if let Err(why) = explored.check_rest(&node) {
                wrong(&explored, None, &why);
            }
            if explored.is_over(&node) {
                over.push(next);
                ends.insert(explored.end(&node));
            }
        }
        for r#move in moves {
            let then = Rc::new(r#move.then);
            let number = *numbers.entry(Rc::clone(&then)).or_insert_with(|| {
                nodes.push(then);
                came_by.push(Some((next, r#move.what)));
                came_from.push(vec![]);
                nodes.len() - 1
            });
            came_from[number].push(u32::try_from(next).expect("fewer nodes"));
        }
        next += 1;
    }

    let mut leads_on = vec![false; nodes.len()];
    while let Some(number) = over.pop() {
        if !std::mem::replace(&mut leads_on[number], true) {
            over.extend(came_from[number].iter().map(|from| *from as usize));
        }
    }
    if let Some(lost) = leads_on.iter().position(|leads_on| !leads_on) {
        panic!("nothing leads on to where everything is over\n{}", way(&explored, &nodes, &came_by, lost, None));
    }
    Report { nodes: nodes.len(), races: explored.races, ends }
}

/// The shortest way to a node, one move a line, and what is there.
fn way(
    explored: &Explored,
    nodes: &[Rc<Node>],
    came_by: &[Option<(usize, What)>],
    to: usize,
    then: Option<What>,
) -> String {
    let mut lines: Vec<String> = then.iter().map(|what| explored.say(what)).collect();
    let mut at = to;
    while let Some((from, what)) = &came_by[at] {
        lines.push(explored.say(what));
        at = *from;
    }
    lines.reverse();
    format!("the way there:\n  {}\nand there:\n{}", lines.join("\n  "), explored.show(&nodes[to]))
}
