package runtimeapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"berth/lambda"
)

// The bodies of this file are those of AWS's open-source emulator, trailing newline included: runtime clients print them.

func accept(w http.ResponseWriter) {
	write(w, http.StatusAccepted, []byte("{\"status\":\"OK\"}\n"))
}

func refuseID(w http.ResponseWriter) {
	refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
}

func refuseTransition(w http.ResponseWriter, from phase, to string) {
	refuse(w, http.StatusForbidden, "InvalidStateTransition", fmt.Sprintf(
		"State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to))
}

func refuseTooLarge(w http.ResponseWriter) {
	refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
		fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", lambda.MaxPayload))
}

func refuseTruncated(w http.ResponseWriter) {
	refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

func refuseMode(w http.ResponseWriter) {
	refuse(w, http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
}

func refuse(w http.ResponseWriter, status int, errorType, message string) {
	body, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, errorType})
	if err != nil { // two strings always marshal
		body = []byte("{}")
	}
	write(w, status, append(body, '\n'))
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a runtime that is gone is noticed by who watches its process
}
