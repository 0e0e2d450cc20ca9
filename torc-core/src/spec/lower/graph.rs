//! Dependencies that follow from files and user data: from producer to consumer.

use super::job::{MOST_DEPENDENCIES, Scope, too_many_dependencies};
use super::names::Names;
use crate::diagnostics::Problem;
use crate::ids::JobId;
use crate::spec::problems::excerpt;
use crate::workflow::Job;

/// Adds to each job the jobs that write what it reads. A file has one producer; user data may have
/// several, and the consumer waits for all.
pub(crate) fn add_implied(jobs: &mut [Job], scope: &Scope<'_, '_>, names: &Names) {
    let mut file_producers: Vec<Option<u32>> = vec![None; scope.files.1.len()];
    let mut data_producers: Vec<Vec<u32>> = vec![Vec::new(); scope.user_data.1.len()];
    for (index, job) in (0_u32..).zip(&*jobs) {
        let Some(data) = &job.data else { continue };
        for file in &data.output_files {
            match file_producers[*file as usize] {
                Some(first) => {
                    let file = &scope.files.1[*file as usize].name;
                    scope.problems.push(two_producers(file, [first, index], names));
                }
                None => file_producers[*file as usize] = Some(index),
            }
        }
        for datum in &data.output_user_data {
            data_producers[*datum as usize].push(index);
        }
    }
    let mut dependencies: usize = jobs.iter().map(|job| job.depends_on.len()).sum();
    for (index, job) in (0_u32..).zip(jobs) {
        let Some(data) = &job.data else { continue };
        let implied = |datum: &u32| data_producers[*datum as usize].len();
        dependencies += data.input_files.len();
        dependencies += data.input_user_data.iter().map(implied).sum::<usize>();
        if dependencies > MOST_DEPENDENCIES {
            scope.problems.push(too_many_dependencies(names.place(index)));
            return;
        }
        let by_file = data.input_files.iter().filter_map(|file| file_producers[*file as usize]);
        let by_data =
            data.input_user_data.iter().flat_map(|datum| &data_producers[*datum as usize]).copied();
        // A job that updates something in place does not wait for itself.
        let implied = by_file.chain(by_data).filter(|producer| *producer != index);
        let mut all: Vec<JobId> = implied.map(|job| JobId::from_index(job as usize)).collect();
        if !all.is_empty() {
            all.extend_from_slice(&job.depends_on);
            all.sort_unstable();
            all.dedup();
            job.depends_on = all.into();
        }
    }
}

fn two_producers(file: &str, jobs: [u32; 2], names: &Names) -> Problem {
    let [first, second] = jobs.map(|job| excerpt(&names.all()[job as usize]));
    let message =
        format!("the file `{}` is written by two jobs, `{first}` and `{second}`", excerpt(file));
    Problem::error("spec::two-producers", message)
        .at(names.place(jobs[1]), "writes it too")
        .help("let each job write a file of its own")
}
