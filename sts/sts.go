// Package sts speaks as much of the AWS Security Token Service as clients need to find out who they are: GetCallerIdentity,
// in the AWS query protocol (a form in, XML out; API version 2011-06-15).
package sts

import (
	"encoding/xml"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"berth/lambda"
)

const (
	namespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	formType  = "application/x-www-form-urlencoded"
	xmlType   = "text/xml"
)

// MaxBody bounds a request, in bytes.
const MaxBody = 64 << 10

// maxEchoed bounds how much of a wrong name an error repeats, in bytes.
const maxEchoed = 64

// API answers calls of STS.
type API struct {
	Log *slog.Logger // nil is slog.Default
}

// Handles reports whether r is a call of a query protocol: a form posted to /, or GET /?Action=….
func (a *API) Handles(r *http.Request) bool {
	if r.URL.Path != "/" && r.URL.Path != "" {
		return false
	}
	switch r.Method {
	case http.MethodPost:
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		return err == nil && kind == formType
	case http.MethodGet:
		return strings.Contains(r.URL.RawQuery, "Action=")
	}
	return false
}

// identity is the answer of GetCallerIdentity. It needs no permission: no policy can take it away (API reference).
type identity struct {
	XMLName   xml.Name `xml:"GetCallerIdentityResponse"`
	Namespace string   `xml:"xmlns,attr"`
	ARN       string   `xml:"GetCallerIdentityResult>Arn"`
	UserID    string   `xml:"GetCallerIdentityResult>UserId"`
	Account   string   `xml:"GetCallerIdentityResult>Account"`
	RequestID string   `xml:"ResponseMetadata>RequestId"`
}

// Serve answers the authenticated call of a caller, whose whole body is given. id is the request's id; its header is the
// caller's to set.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, id string, who lambda.Caller, body []byte) {
	text := string(body)
	if r.Method == http.MethodGet {
		text = r.URL.RawQuery
	}
	form, err := url.ParseQuery(text)
	if err != nil {
		a.refuse(w, id, http.StatusBadRequest, "MalformedInput", "The body is no form: write names and values as application/x-www-form-urlencoded.")
		return
	}
	switch action := form.Get("Action"); action {
	case "GetCallerIdentity":
		a.write(w, http.StatusOK, &identity{Namespace: namespace, ARN: who.ARN(), UserID: who.UserID(), Account: string(who.Account), RequestID: id})
	case "AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "GetFederationToken", "GetSessionToken":
		a.refuse(w, id, http.StatusForbidden, "AccessDenied", "User: "+who.ARN()+" is not authorized to perform: sts:"+action+
			": this server has no roles and no temporary credentials. Use an access key of its own (`berth key create`).")
	default:
		if len(action) > maxEchoed {
			action = strings.ToValidUTF8(action[:maxEchoed], "") + "…"
		}
		a.refuse(w, id, http.StatusBadRequest, "InvalidAction", "Could not find operation "+action+" for version 2011-06-15")
	}
}

// codes are STS's names for what is wrong with a signature (common errors of the query protocol); others stay.
var codes = map[lambda.Code]struct {
	name   string
	status int
}{
	lambda.UnrecognizedClient:    {"InvalidClientTokenId", http.StatusForbidden},
	lambda.InvalidSignature:      {"SignatureDoesNotMatch", http.StatusForbidden},
	lambda.MissingAuthToken:      {"MissingAuthenticationToken", http.StatusForbidden},
	lambda.IncompleteSignature:   {"IncompleteSignature", http.StatusBadRequest},
	lambda.AccessDenied:          {"AccessDenied", http.StatusForbidden},
	lambda.RequestEntityTooLarge: {"RequestEntityTooLarge", http.StatusRequestEntityTooLarge},
}

// Refuse answers a call that is not to be served: nobody's, or too large.
func (a *API) Refuse(w http.ResponseWriter, id string, err error) {
	var e *lambda.Error
	if !errors.As(err, &e) {
		a.log().Error("cannot answer a call of STS", "id", id, "err", err)
		a.refuse(w, id, http.StatusInternalServerError, "InternalFailure", "An internal error occurred.")
		return
	}
	code, known := codes[e.Code]
	if !known {
		code.name, code.status = strings.TrimSuffix(string(e.Code), "Exception"), http.StatusBadRequest
	}
	a.refuse(w, id, code.status, code.name, e.Message)
}

func (a *API) log() *slog.Logger {
	if a.Log == nil {
		return slog.Default()
	}
	return a.Log
}

// failure is an error in the query protocol.
type failure struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func (a *API) refuse(w http.ResponseWriter, id string, status int, code, message string) {
	kind := "Sender"
	if status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	a.write(w, status, &failure{Namespace: namespace, Type: kind, Code: code, Message: message, RequestID: id})
}

func (a *API) write(w http.ResponseWriter, status int, answer any) {
	out, err := xml.Marshal(answer)
	if err != nil { // texts alone: encoding/xml replaces what XML cannot hold
		status, out = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", xmlType)
	w.WriteHeader(status)
	_, _ = w.Write(out) // the client may have gone
}
