package node

import (
	"errors"
	"io"
	"net/http"

	"github.com/google/uuid"

	"berth/apiserver"
	"berth/auth"
	"berth/catalog"
	"berth/code"
	"berth/lambda"
	"berth/logs"
	"berth/runtimes"
	"berth/store"
)

// server is the HTTP face: the Lambda API, and CloudWatch Logs on the same port.
type server struct {
	api          *apiserver.Server
	logs         *logs.API
	authenticate func(*http.Request, []byte) (lambda.AccountID, error)
}

func newServer(cfg Config, blobs store.Blobs, cat *catalog.Catalog, logStore *logs.Store, set *runtimes.Set, r *roles) (*server, error) {
	authenticate := authenticator(cfg, cat)
	api, err := apiserver.New(apiserver.Config{
		Catalog: cat, Blobs: blobs, Invoker: r.frontend, Preparer: r.worker,
		Authenticate: authenticate, Inspect: code.Inspect, Log: cfg.Log,
		Provisioned: r.provisioned,
		RuntimeVersion: func(name string) lambda.RuntimeVersionID {
			version, err := runtimeVersion(set, name)
			if err != nil {
				return ""
			}
			return version
		},
	})
	if err != nil {
		return nil, err
	}
	return &server{api: api, logs: &logs.API{Store: logStore, Region: cfg.Region, Log: cfg.Log}, authenticate: authenticate}, nil
}

// authenticator returns who may call: holders of a known key, or everybody in development mode.
func authenticator(cfg Config, cat *catalog.Catalog) func(*http.Request, []byte) (lambda.AccountID, error) {
	verify := auth.NewVerifier(auth.Config{Keys: cat, Region: cfg.Region}).Verify
	if cfg.DevCredentials {
		verify = auth.NewDevAuthenticator(cfg.Region).Verify
	}
	return func(r *http.Request, body []byte) (lambda.AccountID, error) {
		identity, err := verify(r, body)
		return identity.Account, err
	}
}

// maxLogsBody bounds a request of the logs API, in bytes.
const maxLogsBody = 1 << 20

// ServeHTTP tells the two protocols apart: CloudWatch Logs names its operation in a header.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.logs.Handles(r) {
		s.api.ServeHTTP(w, r)
		return
	}
	w.Header()["X-Amzn-Requestid"] = []string{uuid.NewString()}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogsBody))
	if err != nil {
		s.logs.Refuse(w, lambda.Errorf(lambda.RequestTooLarge, "the request must be smaller than %d bytes", maxLogsBody))
		return
	}
	account, err := s.authenticate(r, body)
	var refused *lambda.Error
	if errors.As(err, &refused) {
		s.logs.Refuse(w, refused)
		return
	}
	s.logs.Serve(w, r, account, body)
}
