use super::*;

fn set(state: &mut State<()>, id: &str, data: &str) {
    state.put(Stored::new(id, data), false);
}

fn contents(state: &State<()>) -> Vec<(String, String)> {
    state
        .freeze()
        .resident()
        .map(|document| (document.id().to_owned(), document.data().to_owned()))
        .collect()
}

fn ids(state: &State<()>) -> String {
    contents(state).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn an_update_keeps_its_place_and_a_set_after_a_delete_goes_last() {
    let mut state = State::default();
    for id in ["a", "b", "c"] {
        set(&mut state, id, "{}");
    }
    set(&mut state, "a", "{\"n\":1}");
    assert_eq!(ids(&state), "abc");
    state.remove("a");
    state.remove("a");
    set(&mut state, "a", "{}");
    assert_eq!(ids(&state), "bca");
    assert_eq!(state.len(), 3);
}

#[test]
fn a_view_does_not_change_while_the_state_does() {
    let mut state = State::default();
    for n in 0..2000 {
        set(&mut state, &n.to_string(), "{}");
    }
    let before = contents(&state);
    let view = state.freeze();
    for n in 0..2000 {
        if n % 3 == 0 {
            state.remove(&n.to_string());
        } else {
            set(&mut state, &n.to_string(), "{\"x\":1}");
        }
    }
    let seen: Vec<_> = view
        .resident()
        .map(|document| (document.id().to_owned(), document.data().to_owned()))
        .collect();
    assert_eq!(seen, before);
    assert_eq!(view.len(), 2000);
}

/// A random history of changes taken back one by one passes through the same states in reverse.
#[test]
fn taking_back_restores_documents_and_order() {
    let mut random = 42_u64;
    let mut next = move |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % bound
    };
    let mut state: State<()> = State::default();
    let mut trail = Vec::new();
    for step in 0..5000 {
        let id = next(200).to_string();
        let previous = state.get(&id).unwrap();
        let before = if step % 50 == 0 {
            Some(contents(&state))
        } else {
            None
        };
        if previous.is_some() && next(3) == 0 {
            state.remove(&id);
            trail.push((OpKind::Delete, id, previous, before));
        } else {
            set(&mut state, &id, &format!("{{\"n\":{step}}}"));
            trail.push((OpKind::Set, id, previous, before));
        }
    }
    while let Some((kind, id, previous, before)) = trail.pop() {
        state.take_back(kind, &id, previous).unwrap();
        if let Some(before) = before {
            assert_eq!(contents(&state), before);
        }
    }
    assert_eq!(state.len(), 0);
}

#[test]
fn taking_back_what_was_not_last_is_refused() {
    let mut state = State::default();
    set(&mut state, "a", "{}");
    set(&mut state, "b", "{}");
    assert!(state.take_back(OpKind::Set, "a", None).is_err());
    assert!(
        state
            .take_back(OpKind::Delete, "c", Some(Stored::new("c", "{}")))
            .is_err()
    );
    assert_eq!(ids(&state), "ab");
}

#[test]
fn forgotten_holes_are_filled() {
    let mut state = State::default();
    for n in 0..3000 {
        set(&mut state, &n.to_string(), "{}");
    }
    for n in 0..2900 {
        state.remove(&n.to_string());
    }
    let holes = state.hole_count();
    state.forget_holes(holes);
    assert_eq!(state.slot_count, 100);
    assert_eq!(state.len(), 100);
    assert!(matches!(state.lookup("2950"), Lookup::Here(_)));
    assert!(matches!(state.lookup("10"), Lookup::Absent));
}
