package rollout

import "math"

// The stated error rates.
const (
	// Alpha bounds the probability that a function which fails equally often, and is equally fast, in both versions is ever
	// found incompatible during a rollout, however long it takes and however often it is looked.
	Alpha = 0.001
	// Beta is the probability with which one is missed that fails, in the new version only, the share of calls that
	// Plan.Detects gives for a stage.
	Beta = 0.01
)

// The test. Within a stage each call is drawn into the new group with the known probability f, whatever the call is. Given that
// some call failed, and that a call fails equally often in both versions, the failed call belongs to the new group with
// probability f: nothing has to be known of how often the function fails, and failures may come in bursts. If failures are r
// times as likely (as odds) in the new version, that probability is f·r/(f·r+1−f). So each failure multiplies a likelihood ratio
//
//	new group: (f·r/(f·r+1−f)) / f      old group: ((1−f)/(f·r+1−f)) / (1−f)
//
// which is Wald's sequential probability ratio test of two binomials given their failures (Wald, Sequential Analysis, 1947, ch. 6,
// "double dichotomies"). A mixture over r makes it a mixture SPRT (Robbins 1970; Johari, Pekelis, Walsh, "Always valid inference",
// 2015), and the mean over the kinds of failures is again a nonnegative martingale with mean 1 while the versions do not differ: by
// Ville's inequality it ever exceeds 1/α with probability α at most, whenever it is looked and whatever was decided on the way.
//
// Two kinds of calls need more care:
//   - New environments fail differently from used ones, and the new version has more of them. Failures of an environment's first
//     call are held against the share of the new version in such calls, once the old one has had some, if that is larger than f.
//   - Slow calls (Mark) are counted as failures are. A rise of their odds by slowTolerance is not held against the new version:
//     runtimes differ by some percent and nobody wants to be pinned for it.

// ratios are the odds ratios that the mixture is made of, equally weighted. The last stands for "never in the old version".
var ratios = [...]float64{1.5, 3, 10, 100, 10000}

const (
	slowTolerance = 1.5 // odds ratio of slow calls
	// enoughCold is how many first calls of environments of the old version must be known in a stage before their share counts.
	enoughCold = 5
	// streams of failures that are tested side by side: each kind, all kinds together, slow calls.
	streams = int(Kinds) + 2
)

// tested is one stream's failures of one stage.
type tested struct {
	null     float64 // probability that one is of the new group while the versions do not differ
	new, old float64
}

// logRatio is the logarithm of the mixture for one stream over the stages.
func logRatio(cells []tested) float64 {
	var terms [len(ratios)]float64
	for i, r := range ratios {
		for _, c := range cells {
			if c.new == 0 && c.old == 0 || c.null <= 0 || c.null >= 1 {
				continue // nothing has failed, or there is nothing to compare with
			}
			alt := c.null * r / (c.null*r + 1 - c.null)
			terms[i] += c.new*math.Log(alt/c.null) + c.old*math.Log((1-alt)/(1-c.null))
		}
	}
	return logMean(terms[:])
}

// logMean is the logarithm of the mean of numbers given by their logarithms.
func logMean(logs []float64) float64 {
	top := logs[0]
	for _, l := range logs {
		top = max(top, l)
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}

// Finding is the state of the test.
type Finding struct {
	// Factor is by how much the evidence favours "worse in the new version" over "no worse": the martingale's value. The
	// function is incompatible from 1/Alpha on.
	Factor float64 `json:"factor"`
	// Kind is what the evidence is strongest for; Kinds stands for slow calls, -1 for failures of all kinds together.
	Kind Kind `json:"kind"`
}

// Any and Slow are values of Finding.Kind beside the kinds of failures.
const (
	Any  Kind = -1
	Slow Kind = Kinds
)

// Compare tests the evidence.
func Compare(e *Evidence) Finding {
	var logs [streams]float64
	found := Finding{Kind: Any}
	strongest := math.Inf(-1)
	for i := range logs {
		kind := Kind(i)
		if i == streams-1 {
			kind = Any
		}
		logs[i] = logRatio(cells(e, kind))
		if logs[i] > strongest {
			strongest, found.Kind = logs[i], kind
		}
	}
	found.Factor = math.Exp(min(logMean(logs[:]), 500)) // a larger number has no JSON
	return found
}

// cells lists a stream's failures by stage; all kinds together leave the cold ones and the others apart too.
func cells(e *Evidence, kind Kind) []tested {
	var out []tested
	for s := range LastStage { // in the last one there is nothing to compare with
		f, old, new := Fractions[s], &e[s][Old], &e[s][New]
		if kind == Slow {
			out = append(out, tested{f * slowTolerance / (f*slowTolerance + 1 - f), float64(new.Slow), float64(old.Slow)})
			continue
		}
		first, last := kind, kind
		if kind == Any {
			first, last = 0, Kinds-1
		}
		warm, cold := tested{null: f}, tested{null: max(f, coldShare(old, new))}
		for k := first; k <= last; k++ {
			warm.new += float64(new.Failed[k] - min(new.FailedCold[k], new.Failed[k]))
			warm.old += float64(old.Failed[k] - min(old.FailedCold[k], old.Failed[k]))
			cold.new += float64(new.FailedCold[k])
			cold.old += float64(old.FailedCold[k])
		}
		out = append(out, warm, cold)
	}
	return out
}

// coldShare is the new group's share in first calls of environments; 0 while too little is known.
func coldShare(old, new *Group) float64 {
	if old.Cold < enoughCold {
		return 0
	}
	return float64(new.Cold) / float64(new.Cold+old.Cold)
}
