package lambda

import (
	"errors"
	"fmt"
	"time"
)

// Code is an error's name on the wire (x-amzn-ErrorType). The API model gives each code its HTTP status and the spelling
// of its message member.
type Code string

// The codes that Berth answers with. The set is closed: an error with another code is a bug.
const (
	InvalidParameterValue Code = "InvalidParameterValueException"
	InvalidRequestContent Code = "InvalidRequestContentException"
	InvalidRuntime        Code = "InvalidRuntimeException"
	InvalidZipFile        Code = "InvalidZipFileException"
	PolicyLengthExceeded  Code = "PolicyLengthExceededException"
	PreconditionFailed    Code = "PreconditionFailedException"
	RequestTooLarge       Code = "RequestTooLargeException"
	RequestEntityTooLarge Code = "RequestEntityTooLargeException"
	ResourceConflict      Code = "ResourceConflictException"
	ResourceNotFound      Code = "ResourceNotFoundException"
	ServiceFailure        Code = "ServiceException"
	CodeSigningMissing    Code = "CodeSigningConfigNotFoundException"
	CodeVerification      Code = "CodeVerificationFailedException"
	ProvisionedMissing    Code = "ProvisionedConcurrencyConfigNotFoundException"
	TooManyRequests       Code = "TooManyRequestsException"
	Validation            Code = "ValidationException"
	AccessDenied          Code = "AccessDeniedException"
	InvalidSignature      Code = "InvalidSignatureException"
	IncompleteSignature   Code = "IncompleteSignatureException"
	MissingAuthToken      Code = "MissingAuthenticationTokenException"
	UnrecognizedClient    Code = "UnrecognizedClientException"
	UnknownOperation      Code = "UnknownOperationException"
	MalformedPolicy       Code = "MalformedPolicyDocumentException" // ours: the policy of an access key cannot be read
	NotImplemented        Code = "NotImplementedException"          // ours: an operation of the model that Berth has not built
	SerializationFailure  Code = "SerializationException"
)

// Throttle reasons, the `Reason` member of TooManyRequests.
const (
	ReasonConcurrency         = "ConcurrentInvocationLimitExceeded"
	ReasonReservedConcurrency = "ReservedFunctionConcurrentInvocationLimitExceeded"
	ReasonCallerRate          = "CallerRateLimitExceeded"
)

// Error is an error as a caller sees it. Message says what was expected, what came, and what to do.
type Error struct {
	Code       Code
	Message    string
	Reason     string        // TooManyRequests only
	RetryAfter time.Duration // TooManyRequests only; whole seconds on the wire
	NotStarted bool          `json:",omitempty"` // the call's environment could not be started, or again: the function has not seen the event
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf builds an Error; the format must not be given secrets.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err, or ServiceFailure for an error that is not a lambda.Error.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ServiceFailure
}
