// Package conformance replays what the real service answered. The recordings (a JSON file: test id → label → answer, made
// against AWS by the LocalStack project's public tests, Apache-2.0) hold answers only; the calls are written here again, as
// scenarios, one per test id. Answers are compared as botocore shows them: strictly, a field too many or too few is a
// difference, and volatile values by the placeholder that stands for them.
//
// LAMBDA_RECORDINGS names the recordings' file or the folder that holds recordings.json; without it the replay skips.
package conformance
