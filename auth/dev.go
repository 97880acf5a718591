package auth

import (
	"net/http"
	"strings"

	"berth/lambda"
)

// DevAccount is whose calls are those without a twelve-digit access key id in development mode, as in other local emulators.
const DevAccount lambda.AccountID = "123456789012"

// DevAuthenticator accepts every request: for development on a loopback address only.
type DevAuthenticator struct{ region string }

// NewDevAuthenticator returns an authenticator that takes any signature or none.
func NewDevAuthenticator(region string) *DevAuthenticator { return &DevAuthenticator{region} }

// Verify never fails: an access key id of twelve digits is the account, everything else is DevAccount's.
func (d *DevAuthenticator) Verify(r *http.Request, _ []byte) (Identity, error) {
	id := Identity{Caller: lambda.Caller{Account: DevAccount}, Region: d.region, Service: DefaultServices[0]}
	credential := ""
	if header := first(r.Header, "Authorization"); len(header) <= maxAuthorization {
		_, credential, _ = strings.Cut(header, "Credential=")
	}
	if credential == "" && len(r.URL.RawQuery) <= maxAuthorization {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	credential, _, _ = strings.Cut(credential, ",")
	parts := strings.SplitN(credential, "/", 6)
	if plain(parts[0]) {
		id.Key = parts[0]
	}
	if isAccount(parts[0]) {
		id.Account = lambda.AccountID(parts[0])
	}
	if len(parts) == 5 && plain(parts[3]) {
		id.Service = parts[3]
	}
	return id, nil
}

func isAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }
