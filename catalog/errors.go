package catalog

import "berth/lambda"

// The messages below are Lambda's own; sources are the recordings unless a comment says otherwise.

// NotFound says that a function, or with a qualifier its version or alias, does not exist.
func NotFound(arn string) *lambda.Error {
	return lambda.Errorf(lambda.ResourceNotFound, "Function not found: %s", arn)
}

func aliasNotFound(arn string) *lambda.Error {
	return lambda.Errorf(lambda.ResourceNotFound, "Cannot find alias arn: %s", arn)
}

func invalid(format string, args ...any) *lambda.Error {
	return lambda.Errorf(lambda.InvalidParameterValue, format, args...)
}

// notActive says why a version cannot be invoked or changed now. The reason after a failure is Berth's addition.
func notActive(state lambda.State, reason string) *lambda.Error {
	e := lambda.Errorf(lambda.ResourceConflict,
		"The operation cannot be performed at this time. The function is currently in the following state: %s", state)
	if state == lambda.Failed && reason != "" {
		e.Message += ". " + reason
	}
	return e
}

func updating(arn string) *lambda.Error {
	return lambda.Errorf(lambda.ResourceConflict,
		"The operation cannot be performed at this time. An update is in progress for resource: %s", arn)
}

func wrongRevision() *lambda.Error {
	return lambda.Errorf(lambda.PreconditionFailed,
		"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
}

func wrongPolicyRevision() *lambda.Error {
	return lambda.Errorf(lambda.PreconditionFailed,
		"The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id")
}
