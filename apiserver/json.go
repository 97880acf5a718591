package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"berth/lambda"
)

// checkJSON refuses a payload that is not JSON in UTF-8, with a message like that of the parser behind Lambda (Jackson;
// its words for wrong UTF-8 are recorded, the others are those that users report).
func checkJSON(payload []byte) error {
	if json.Valid(payload) && utf8.Valid(payload) {
		return nil
	}
	what, at := jsonFault(payload)
	line := 1 + bytes.Count(payload[:at], []byte{'\n'})
	column := at - bytes.LastIndexByte(payload[:at], '\n')
	return lambda.Errorf(lambda.InvalidRequestContent, "Could not parse request body into json: Could not parse payload into json: %s\n"+
		" at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: %d, column: %d]", what, line, column)
}

const oneValue = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"

// jsonFault says what is wrong with a payload, and after how many bytes the parser found out.
func jsonFault(payload []byte) (what string, at int) {
	syntax := len(payload)
	var e *json.SyntaxError
	if errors.As(json.Unmarshal(payload, new(json.RawMessage)), &e) {
		syntax = min(max(int(e.Offset)-1, 0), len(payload))
	}
	if i := invalidUTF8(payload); i < len(payload) && i <= syntax+1 {
		return fmt.Sprintf("Invalid UTF-8 start byte 0x%x", payload[i]), i + 1
	}
	if syntax >= len(payload)-1 && (e == nil || e.Error() == "unexpected end of JSON input") {
		return "Unexpected end-of-input", len(payload)
	}
	begin, end := word(payload, syntax)
	if end > begin && isLetter(payload[begin]) {
		return fmt.Sprintf("Unrecognized token '%.256s': was expecting %s", payload[begin:end], oneValue), end
	}
	r, _ := utf8.DecodeRune(payload[syntax:])
	return fmt.Sprintf("Unexpected character ('%c' (code %d)): expected a valid value %s", r, r, oneValue), syntax + 1
}

// invalidUTF8 returns the index of the first byte that is not UTF-8, or len(b).
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(b)
}

// word returns the bounds of the run of letters and digits around index i.
func word(b []byte, i int) (begin, end int) {
	begin, end = i, i
	for begin > 0 && isLetter(b[begin-1]) {
		begin--
	}
	for end < len(b) && isLetter(b[end]) {
		end++
	}
	return begin, end
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
