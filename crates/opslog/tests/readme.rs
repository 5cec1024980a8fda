//! What the README shows is what is run.

#[test]
fn the_readme_s_program_is_the_example_tasks() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../examples/tasks.rs");
    let (_, shown) = readme
        .split_once("```rust\n")
        .expect("the README shows a program");
    let (shown, _) = shown.split_once("```").expect("the program ends");
    assert!(
        example.ends_with(shown),
        "copy the README's program to examples/tasks.rs"
    );
}
