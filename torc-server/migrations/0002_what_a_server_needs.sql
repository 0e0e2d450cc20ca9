-- A name that no other database has: by it the scheduler's allocations are known to be this one's.
ALTER TABLE owner ADD COLUMN store_key TEXT NOT NULL DEFAULT '';
UPDATE owner SET store_key = lower(hex(randomblob(8)));

-- What a workflow was submitted with to a server: the submitter's environment (a JSON list of pairs)
-- and file mode creation mask. NULL: it was run where it was typed.
ALTER TABLE workflow ADD COLUMN environment TEXT;
ALTER TABLE workflow ADD COLUMN umask INTEGER;
