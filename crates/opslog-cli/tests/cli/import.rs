//! `import`: what is accepted, what is refused, and that it is all or nothing.

use std::fmt::Write as _;

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::{EXPORTED, INVALID_INPUT, NOT_FOUND, Place, USAGE};

const BAD: &str = "{\"id\":\"a\"}\nnonsense\n\n{\"id\":\"b\"}\n[1]\n{\"name\":\"no id\"}\n";

#[test]
fn counts_are_reported_and_duplicates_update() {
    let place = Place::new();
    let lines = "{\"id\":\"a\",\"n\":1}\n{\"id\":7,\"n\":2}\n{\"id\":\"a\",\"n\":3}\n";
    place
        .run(&["import", "--id", "id", "-"])
        .write_stdin(lines)
        .assert()
        .success()
        .stdout("{\"imported\":2,\"updated\":1,\"skipped\":0,\"commits\":1}\n");
    assert_eq!(
        place.output(&["export"]),
        "{\"id\":\"a\",\"data\":{\"id\":\"a\",\"n\":3}}\n{\"id\":\"7\",\"data\":{\"id\":7,\"n\":2}}\n"
    );
}

#[test]
fn a_bad_line_means_that_nothing_is_imported() {
    let place = Place::new();
    let file = place.file("bad.jsonl", BAD);
    place
        .run(&["import", "--id", "id", &file])
        .assert()
        .code(INVALID_INPUT)
        .stdout("")
        .stderr(
            contains("bad.jsonl: line 2: expected ident")
                .and(contains("bad.jsonl: line 5: not a JSON object"))
                .and(contains("bad.jsonl: line 6: it has no field 'id'"))
                .and(contains("error: 3 of 5 are bad; nothing was imported"))
                .and(contains("--skip-bad")),
        );
    assert!(!place.store().exists());
}

#[test]
fn a_bad_line_leaves_an_existing_store_as_it_was() {
    let place = Place::with_documents();
    place
        .run(&["import", "--id", "id", "-"])
        .write_stdin("{\"id\":\"new\"}\n{\"id\":\"cut")
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("the standard input: line 2: EOF while parsing"));
    assert_eq!(place.output(&["export"]), EXPORTED);
}

#[test]
fn what_the_store_would_refuse_is_known_before_anything_is_written() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = "x".repeat(opslog::MAX_ID_BYTES + 1);
    let lines = format!(
        "{{\"id\":\"good\"}}\n{{\"id\":\"deep\",\"a\":{deep}}}\n{{\"id\":\"{long}\"}}\n{{\"id\":\"\"}}\n"
    );
    let place = Place::new();
    place
        .run(&["import", "--id", "id", "--batch-size", "1", "-"])
        .write_stdin(lines.clone())
        .assert()
        .code(INVALID_INPUT)
        .stderr(
            contains("line 2: document 'deep' is nested")
                .and(contains("line 3:"))
                .and(contains("line 4:")),
        );
    assert!(!place.store().exists());
    place
        .run(&["import", "--id", "id", "--skip-bad", "-"])
        .write_stdin(lines)
        .assert()
        .success()
        .stdout(contains("\"imported\":1,\"updated\":0,\"skipped\":3"));
}

#[test]
fn skip_bad_imports_the_rest_and_still_reports() {
    let place = Place::new();
    place
        .run(&["import", "--id", "id", "--skip-bad", "-"])
        .write_stdin(BAD)
        .assert()
        .success()
        .stdout("{\"imported\":2,\"updated\":0,\"skipped\":3,\"commits\":1}\n")
        .stderr(
            contains("line 2")
                .and(contains("line 5"))
                .and(contains("line 6")),
        );
    assert_eq!(place.output(&["count"]), "2\n");
}

#[test]
fn an_array_is_imported_like_lines() {
    let place = Place::new();
    let file = place.file(
        "array.json",
        "\n[\n {\"id\": \"a\", \"n\": 1.0},\n {\"id\": \"b\",\n  \"n\": 2}\n]\n",
    );
    place
        .run(&["import", "--id", "id", &file])
        .assert()
        .success();
    assert_eq!(
        place.output(&["export"]),
        "{\"id\":\"a\",\"data\":{\"id\":\"a\",\"n\":1.0}}\n{\"id\":\"b\",\"data\":{\"id\":\"b\",\"n\":2}}\n"
    );
}

#[test]
fn a_bad_element_is_located_and_a_cut_array_is_refused() {
    let place = Place::new();
    place
        .run(&["import", "--id", "id", "-"])
        .write_stdin("[{\"id\":\"a\"},\n3,\n{\"id\":\"b\"}]")
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("line 2: not a JSON object"));
    place
        .run(&["import", "--id", "id", "--skip-bad", "-"])
        .write_stdin("[{\"id\":\"a\"},\n{\"id\":\"b\"}\n")
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("line 3: the array cannot be read on from here"));
    assert!(!place.store().exists());
}

#[test]
fn without_id_only_the_form_of_export_is_accepted() {
    let place = Place::new();
    place
        .run(&["import", "-"])
        .write_stdin("{\"name\":\"a\"}\n")
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("--id FIELD"));
}

#[test]
fn one_undo_takes_a_batch_back() {
    let place = Place::with_documents();
    let lines = "{\"id\":\"a\",\"n\":9}\n{\"id\":\"z\"}\n";
    place
        .run(&["import", "--id", "id", "-"])
        .write_stdin(lines)
        .assert()
        .success();
    assert_eq!(place.output(&["count"]), "4\n");
    assert_eq!(place.output(&["undo"]), "{\"undone\":1}\n");
    assert_eq!(place.output(&["export"]), EXPORTED);
}

#[test]
fn an_import_is_written_in_batches_or_as_one_commit() {
    let mut lines = String::new();
    for number in 0..25 {
        writeln!(lines, "{{\"id\":{number}}}").unwrap();
    }
    for (options, commits) in [(&["--batch-size", "10"][..], 3), (&["--atomic"], 1)] {
        let place = Place::new();
        place
            .run(&["import", "--id", "id", "-"])
            .args(options)
            .write_stdin(lines.clone())
            .assert()
            .success()
            .stdout(contains(format!("\"commits\":{commits}}}")));
        let undone = place.output(&["undo", "-n", &commits.to_string()]);
        assert_eq!(undone, format!("{{\"undone\":{commits}}}\n"));
        assert_eq!(place.output(&["count"]), "0\n");
    }
}

#[test]
fn many_bad_lines_are_summed_up() {
    let place = Place::new();
    place
        .run(&["import", "-"])
        .write_stdin("x\n".repeat(100))
        .assert()
        .code(INVALID_INPUT)
        .stderr(
            contains("line 20:")
                .and(contains("line 21:").not())
                .and(contains("and 80 more")),
        );
}

#[test]
fn a_field_that_was_not_named_is_asked_for_once() {
    let place = Place::new();
    place
        .run(&["import", "-"])
        .write_stdin("{\"name\":\"a\"}\n".repeat(100))
        .assert()
        .code(INVALID_INPUT)
        .stderr(
            contains("line 1:")
                .and(contains("line 2:").not())
                .and(contains("and 99 more"))
                .and(contains("hint: if the id is in a field"))
                .and(contains("--skip-bad").not()),
        );
}

#[test]
fn an_agent_s_import_is_taken_back_by_that_agent() {
    let place = Place::new();
    place
        .run(&["--table", "--agent", "ann", "import", "--id", "id"])
        .args(["--batch-size", "1", "-"])
        .write_stdin("{\"id\":1}\n{\"id\":2}\n")
        .assert()
        .success()
        .stderr(contains("'opslog --agent ann undo -n 2' takes this import"));
}

#[test]
fn a_file_that_is_not_there_is_not_found() {
    let place = Place::new();
    place
        .run(&["import", "--id", "id", "/nowhere/at/all"])
        .assert()
        .code(NOT_FOUND)
        .stderr(contains("cannot read /nowhere/at/all"));
    assert!(!place.store().exists());
}

#[test]
fn nothing_to_import_is_no_error() {
    let place = Place::new();
    place
        .run(&["import", "-"])
        .write_stdin("\n \n")
        .assert()
        .success()
        .stdout("{\"imported\":0,\"updated\":0,\"skipped\":0,\"commits\":0}\n");
}

#[test]
fn a_batch_size_of_zero_is_refused() {
    let place = Place::new();
    place
        .run(&["import", "--batch-size", "0", "-"])
        .assert()
        .code(USAGE);
}

#[test]
fn what_no_program_could_read_is_a_bad_line() {
    let place = Place::new();
    let lines = concat!(
        r#"{"id":"a","data":{"text":"\ud800"}}"#,
        "\n",
        r#"{"id":"b","data":{"n":1e400}}"#,
        "\n",
        r#"{"id":"c","data":{"n":1}}"#,
        "\n",
    );
    place
        .run(&["import", "-"])
        .write_stdin(lines)
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains(
            "line 1: document 'a' has half a character, or a number",
        ))
        .stderr(contains(
            "line 2: document 'b' has half a character, or a number",
        ));
    place
        .run(&["import", "--skip-bad", "-"])
        .write_stdin(lines)
        .assert()
        .success();
    assert_eq!(place.output(&["count"]), "1\n");
    assert_eq!(place.open().all().unwrap().len(), 1);
}
