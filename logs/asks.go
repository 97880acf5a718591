package logs

import (
	"encoding/json"
	"net/http"
	"strings"

	"berth/lambda"
)

// maxNamed bounds a group's or stream's name in a resource, in bytes: longer ones name nothing.
const maxNamed = 1024

// Asks returns what an account's call wants to do to what, for the policies: "logs:FilterLogEvents", and
// "arn:aws:logs:REGION:ACCOUNT:log-group:GROUP:log-stream:STREAM" (service authorization reference, CloudWatch Logs). Group and
// stream are empty where the call names none.
func (a *API) Asks(r *http.Request, account lambda.AccountID, body []byte) (action, resource string) {
	var in struct {
		Group      string `json:"logGroupName"`
		Identifier string `json:"logGroupIdentifier"`
		Stream     string `json:"logStreamName"`
	}
	_ = json.Unmarshal(body, &in) // what cannot be read is refused later, and names nothing
	group := in.Group
	if group == "" {
		group = in.Identifier
		if _, name, ok := strings.Cut(group, ":log-group:"); ok {
			group = strings.TrimSuffix(name, ":*")
		}
	}
	if len(group) > maxNamed || len(in.Stream) > maxNamed {
		group, in.Stream = "", ""
	}
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	if len(operation) > maxNamed {
		operation = ""
	}
	return "logs:" + operation, "arn:aws:logs:" + a.Region + ":" + string(account) + ":log-group:" + group + ":log-stream:" + in.Stream
}
