package logs

import (
	"net/http"
	"strings"

	"berth/lambda"
)

// targetPrefix begins X-Amz-Target of every CloudWatch Logs call.
const targetPrefix = "Logs_20140328."

// API speaks the CloudWatch Logs protocol (JSON 1.1) for a Store.
type API struct {
	Store  *Store
	Region string // for ARNs
}

// Handles reports whether r is a CloudWatch Logs call (POST / with X-Amz-Target Logs_20140328.…).
func (a *API) Handles(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
}

// Serve answers one authenticated call of account, whose whole body is given.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, account lambda.AccountID, body []byte) {
	http.Error(w, "not built yet", http.StatusNotImplemented)
}
