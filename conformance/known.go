package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// unplayed says why recordings have no scenario, by the beginning of their ids.
var unplayed = []struct{ prefix, reason string }{
	{"api::TestLambdaPermissions::test_lambda_permission_revisions", "recorded in 2022: its answer to a wrong RevisionId is no longer the service's (api::TestLambdaPermissions::test_permission_exceptions is newer)"},
	{"destinations::TestLambdaDestinationEventbridge", "it holds what came to EventBridge, which is none of the targets"},
	{"destinations::TestLambdaDestinationSqs::", "retries take minutes; package events tests them in virtual time, and e2e's TestDestinationsOfServices the messages"},
	{"dynamodbstreams::", needsSources},
	{"invoke::TestLambdaBehavior::test_lambda_host_prefix_api_operation", "the function calls AWS under three host names; there is no such network here"},
	{"invoke::TestLambdaVersions::test_async_invoke_queue_upon_function_update", "the function reports through SQS"},
	{"kinesis::", needsSources},
	{"sqs::", "the function reports through SQS; e2e's TestQueueMappings compares such records"},
}

const knownHead = `# Known differences

Which of the recorded answers of the real service this server does not give, and why. Written by
` + "`LAMBDA_RECORDINGS=… go test ./conformance -run TestKnownDifferences -update`" + `; the same test fails when this file
is not what it would write, and the replay fails when a recording that is not listed here does not match.

`

// knownDifferences writes the list of recordings that are not expected to match, by reason.
func knownDifferences(recordings map[string]recording) (string, error) {
	whole, part := map[string][]string{}, map[string][]string{}
	played, matching := map[string]bool{}, 0
	for _, sc := range scenarios() {
		played[sc.id] = true
		switch {
		case sc.labels != nil:
			part[sc.pending] = append(part[sc.pending], sc.id+" (compared: "+strings.Join(sc.labels, ", ")+")")
		case sc.pending != "":
			whole[sc.pending] = append(whole[sc.pending], sc.id)
		default:
			matching++
		}
	}
	used := map[string]bool{}
	for id := range recordings {
		if played[id] {
			continue
		}
		i := slices.IndexFunc(unplayed, func(u struct{ prefix, reason string }) bool { return strings.HasPrefix(id, u.prefix) })
		if i < 0 {
			return "", fmt.Errorf("recording %s has neither a scenario nor a reason", id)
		}
		used[unplayed[i].prefix] = true
		whole[unplayed[i].reason] = append(whole[unplayed[i].reason], id)
	}
	for _, u := range unplayed {
		if !used[u.prefix] {
			return "", fmt.Errorf("no recording without a scenario begins with %s: take its reason out", u.prefix)
		}
	}
	var b strings.Builder
	b.WriteString(knownHead)
	fmt.Fprintf(&b, "Of %d recordings %d match, %d match in the part that is this API's, and %d do not.\n", len(recordings), matching, count(part), count(whole))
	writeShare(&b, shareOf(recordings))
	b.WriteString("\n## Do not match\n")
	writeReasons(&b, whole)
	b.WriteString("\n## Match in part\n")
	writeReasons(&b, part)
	return b.String(), nil
}

// writeShare says how many match of those that concern zip functions, and what the others are.
func writeShare(b *strings.Builder, s share) {
	fmt.Fprintf(b, "\nOf the %d that concern zip functions %d match: %.1f %%. The other %d hold, whether they match or not:\n\n",
		s.zip, s.zipMatching, s.percent(), s.all-s.zip)
	for _, o := range outside {
		fmt.Fprintf(b, "- `%s…`: %s\n", o.prefix, o.why)
	}
}

func count(reasons map[string][]string) int {
	n := 0
	for _, ids := range reasons {
		n += len(ids)
	}
	return n
}

func writeReasons(b *strings.Builder, reasons map[string][]string) {
	all := make([]string, 0, len(reasons))
	for r := range reasons {
		all = append(all, r)
	}
	slices.Sort(all)
	for _, r := range all {
		fmt.Fprintf(b, "\n**%s%s**\n\n", strings.ToUpper(r[:1]), r[1:])
		slices.Sort(reasons[r])
		for _, id := range reasons[r] {
			fmt.Fprintf(b, "- `%s`\n", id)
		}
	}
}
