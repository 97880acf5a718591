package runtimeapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"berth/lambda"
)

// The bodies of this file are those of AWS's open-source emulator, trailing newline included: runtime clients print them.

const acceptedBody = "{\"status\":\"OK\"}\n"

var accept = reply{status: http.StatusAccepted, contentType: jsonText, body: []byte(acceptedBody)}

func refuseID() reply {
	return refusal(http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
}

func refuseTransition(from phase, to string) reply {
	return refusal(http.StatusForbidden, "InvalidStateTransition", fmt.Sprintf(
		"State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to))
}

func refuseTooLarge() reply {
	return refusal(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
		fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", lambda.MaxPayload))
}

func refuseTruncated() reply {
	return refusal(http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

func refuseMode() reply {
	return refusal(http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
}

func refusal(status int, errorType, message string) reply {
	body, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, errorType})
	if err != nil { // two strings always marshal
		body = []byte("{}")
	}
	return reply{status: status, contentType: jsonText, body: append(body, '\n')}
}
