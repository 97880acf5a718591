package conformance

import "slices"

// scenarios lists every scenario of this slice.
func scenarios() []scenario {
	return slices.Concat(nameScenarios(), functionScenarios(), limitScenarios(), versionScenarios(), permissionScenarios(),
		tagScenarios(), runtimeScenarios(), invokeScenarios(), errorScenarios(),
		concurrencyScenarios(), eventScenarios(), layerScenarios(), mappingScenarios(), signingScenarios(), imageScenarios(), providedScenarios(), logScenarios())
}

// Reasons for pending.
const (
	needsURLs  = "function URLs are not built yet"
	needsQueue = "it reads from an SQS queue; e2e's TestDestinationsOfServices compares such bodies"
)
