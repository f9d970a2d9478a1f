//! The same attacks from a container, whose root may be the host's.

use super::guest::Guest;
use super::{budgets, publish, secrets, staging};

crate::tests! {
    Podman:
        a_logfile_is_not_copied_from_a_containers_link,
        a_logfile_is_not_copied_from_a_containers_fifo,
        a_containers_link_does_not_lead_a_timings_page,
        a_container_does_not_replace_a_users_folder,
        only_files_and_folders_of_a_container_are_published,
        a_containers_names_do_not_command_the_terminal,
        a_container_cannot_open_its_share_to_other_users,
        another_user_cannot_replace_a_containers_result,
        a_containers_sparse_log_does_not_hold_ctrl_c,
        a_containers_sparse_result_does_not_hold_ctrl_c,
        a_containers_log_of_newlines_takes_little_memory,
        a_password_of_a_proxy_is_in_no_command_line_of_a_container,
        a_password_of_a_proxy_is_in_no_plan_of_a_container;
}

fn a_logfile_is_not_copied_from_a_containers_link() {
    publish::logfile_link(&Guest::container());
}

fn a_logfile_is_not_copied_from_a_containers_fifo() {
    publish::logfile_fifo(&Guest::container());
}

fn a_containers_link_does_not_lead_a_timings_page() {
    publish::timings_link(&Guest::container());
}

fn a_container_does_not_replace_a_users_folder() {
    publish::users_folder(&Guest::container());
}

fn only_files_and_folders_of_a_container_are_published() {
    publish::odd_kinds(&Guest::container());
}

fn a_containers_names_do_not_command_the_terminal() {
    publish::control_names(&Guest::container());
}

fn a_container_cannot_open_its_share_to_other_users() {
    staging::open_share(&Guest::container());
}

fn another_user_cannot_replace_a_containers_result() {
    let test = "another_user_cannot_replace_a_containers_result";
    staging::replaced_result(test, Guest::container);
}

fn a_containers_sparse_log_does_not_hold_ctrl_c() {
    budgets::sparse_log_and_ctrl_c(&Guest::container());
}

fn a_containers_sparse_result_does_not_hold_ctrl_c() {
    budgets::sparse_result_and_ctrl_c(&Guest::container());
}

fn a_containers_log_of_newlines_takes_little_memory() {
    budgets::flood(&Guest::container());
}

fn a_password_of_a_proxy_is_in_no_command_line_of_a_container() {
    secrets::command_lines_of_containers();
}

fn a_password_of_a_proxy_is_in_no_plan_of_a_container() {
    secrets::plans(&Guest::container(), &[&[]]);
}
