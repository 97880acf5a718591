package conformance

import "slices"

// scenarios lists every scenario of this slice.
func scenarios() []scenario {
	return slices.Concat(nameScenarios(), functionScenarios(), limitScenarios(), versionScenarios(), permissionScenarios(),
		tagScenarios(), runtimeScenarios(), invokeScenarios(), errorScenarios(),
		concurrencyScenarios(), eventScenarios(), layerScenarios(), mappingScenarios(), signingScenarios(), urlScenarios(), imageScenarios(), providedScenarios(), logScenarios(), queueScenarios())
}
