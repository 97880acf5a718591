package apiserver

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// maxPage is the most that one page of a list holds, whatever the caller asks for (API reference, ListFunctions).
const maxPage = 50

func pageSize(n *int32) int {
	if n == nil || *n > maxPage || *n < 1 {
		return maxPage
	}
	return int(*n)
}

// markerOf hides a position in a list, so that no client builds its own.
func markerOf(after string) *string {
	if after == "" {
		return nil
	}
	return aws.String(base64.RawURLEncoding.EncodeToString([]byte(after)))
}

func readMarker(m *string) (after string, err error) {
	if m == nil || *m == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*m)
	if err != nil || len(b) == 0 {
		return "", wrongMarker()
	}
	return string(b), nil
}

func wrongMarker() error {
	return invalid("The provided marker is not valid. Pass on the NextMarker of the page before.")
}

func (s *Server) listFunctions(_ context.Context, c *call, in *sdk.ListFunctionsInput) (*sdk.ListFunctionsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListFunctionsOutput{Functions: []types.FunctionConfiguration{}}
	if in.FunctionVersion == types.FunctionVersionAll {
		s.listAll(c.account, after, pageSize(in.MaxItems), out)
		return out, nil
	}
	list, next := s.cfg.Catalog.Functions(c.account, after, pageSize(in.MaxItems))
	for _, f := range list {
		out.Functions = append(out.Functions, *listed(&f.Latest, f.ARN()))
	}
	out.NextMarker = markerOf(next)
	return out, nil
}

// listAll fills out with up to n versions of all functions. A position is NAME/NUMBER: the last version shown.
func (s *Server) listAll(account lambda.AccountID, position string, n int, out *sdk.ListFunctionsOutput) {
	name, number, inside := strings.Cut(position, "/")
	if inside { // the rest of the function that the page before ended in
		if f, ok := s.cfg.Catalog.Function(catalog.ID{Account: account, Name: name}); ok && s.addVersions(f, number, n, out) {
			return
		}
	}
	functions, more := s.cfg.Catalog.Functions(account, name, n)
	for _, f := range functions {
		if s.addVersions(f, "", n, out) {
			return
		}
	}
	if more != "" {
		out.NextMarker = markerOf(more)
	}
}

// addVersions adds a function's versions after a number. It reports true when the page is full, with its marker set.
func (s *Server) addVersions(f *catalog.Function, after string, n int, out *sdk.ListFunctionsOutput) (full bool) {
	room := n - len(out.Functions)
	if room == 0 {
		last := out.Functions[n-1]
		out.NextMarker = markerOf(aws.ToString(last.FunctionName) + "/" + aws.ToString(last.Version))
		return true
	}
	list, next := s.cfg.Catalog.Versions(f, after, room)
	for _, v := range list {
		out.Functions = append(out.Functions, *listed(v, v.ARN()))
	}
	if next != "" {
		out.NextMarker = markerOf(f.Latest.Function + "/" + next)
	}
	return next != ""
}

func (s *Server) listVersions(_ context.Context, c *call, in *sdk.ListVersionsByFunctionInput) (*sdk.ListVersionsByFunctionOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.Versions(f, after, pageSize(in.MaxItems))
	out := &sdk.ListVersionsByFunctionOutput{Versions: []types.FunctionConfiguration{}, NextMarker: markerOf(next)}
	for _, v := range list {
		out.Versions = append(out.Versions, *listed(v, v.ARN()))
	}
	return out, nil
}

func (s *Server) publishVersion(ctx context.Context, c *call, in *sdk.PublishVersionInput) (*types.FunctionConfiguration, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if in.PublishTo != "" {
		return nil, invalid("PublishTo is not supported by this server yet. Leave it out.")
	}
	v, err := s.cfg.Catalog.Publish(ctx, idOf(ref), aws.ToString(in.CodeSha256), aws.ToString(in.RevisionId), in.Description)
	if err != nil {
		return nil, err
	}
	s.prepare.wake(catalog.Work{ID: idOf(ref), Number: v.Number})
	return s.describe(v, v.ARN()), nil
}
