//! Loads tested: a lake made of real files, and targets that are real databases. Each case runs on every engine.

mod cases;
mod duckdb;
mod faults;
mod large;
mod schema;
mod stage;

/// Each case as a test of its own on each engine.
macro_rules! on_every_engine {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(super::stage::Place::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(super::stage::Place::postgres()).await;
            })*
        }
    };
}

on_every_engine![
    cases::a_first_load_brings_every_type,
    cases::a_merge_brings_what_is_new,
    cases::a_merge_over_an_appending_lake_keeps_the_newest,
    cases::an_append_skips_rows_that_were_only_written_anew,
    cases::a_replaced_resource_replaces_the_table,
    cases::doing_it_again_changes_nothing,
    cases::several_commits_are_caught_up_with,
    cases::child_rows_follow_their_parents,
    cases::rows_without_a_key_are_rows_of_their_own,
    cases::an_empty_resource_becomes_an_empty_table,
    cases::strange_names_and_texts_come_through,
    cases::every_file_format_loads,
    cases::only_the_named_resources_are_loaded,
    faults::a_crash_before_the_commit_loses_and_doubles_nothing,
    faults::readers_never_see_an_empty_table,
    faults::two_loads_at_once_do_not_double,
    faults::tables_of_others_are_not_touched,
    faults::a_lake_that_began_anew_is_loaded_whole,
    faults::a_held_back_commit_brings_nothing,
    faults::a_file_that_is_gone_is_told,
    faults::files_that_a_run_replaced_meanwhile_are_looked_up_anew,
    schema::new_columns_are_added,
    schema::whole_numbers_become_fractions,
    schema::a_column_of_another_type_is_made_anew_by_a_full_load,
    schema::a_column_that_cannot_hold_the_values_is_told,
    schema::a_table_made_by_hand_keeps_its_types,
    schema::another_key_or_mode_loads_the_table_anew,
    large::many_rows_come_through,
];
