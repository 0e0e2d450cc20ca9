-- Who may write: raised by each process that takes the database over, checked by each append.
CREATE TABLE owner (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO owner (id, generation) VALUES (1, 0);

-- A submitted workflow, as it was lowered from its spec.
CREATE TABLE workflow (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    submitted_at INTEGER NOT NULL,
    submission_dir TEXT NOT NULL,
    spec_path TEXT,
    header TEXT NOT NULL
) STRICT;

-- Its jobs in expansion order, many to a row since they are only ever read together.
CREATE TABLE job_chunk (
    workflow INTEGER NOT NULL REFERENCES workflow (id),
    chunk INTEGER NOT NULL,
    jobs TEXT NOT NULL,
    PRIMARY KEY (workflow, chunk)
) STRICT, WITHOUT ROWID;

-- All that happened to it. One row is one commit: events that became durable together.
CREATE TABLE log (
    workflow INTEGER NOT NULL REFERENCES workflow (id),
    sequence INTEGER NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (workflow, sequence)
) STRICT, WITHOUT ROWID;
