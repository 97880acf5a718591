package apiserver

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/functionurl"
	"berth/lambda"
)

// The errors of these operations, and which member an answer has, are those of TestLambdaUrl (recorded 25-11-2025).

// urlTimeFormat is how the API writes the times of a function URL.
const urlTimeFormat = "2006-01-02T15:04:05.000000Z"

func (s *Server) createURL(ctx context.Context, c *call, in *sdk.CreateFunctionUrlConfigInput) (*sdk.CreateFunctionUrlConfigOutput, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	u, err := s.cfg.Catalog.CreateURL(ctx, idOf(ref), catalog.URL{
		Qualifier: ref.Qualifier, AuthType: string(in.AuthType), InvokeMode: string(in.InvokeMode), CORS: corsOf(in.Cors),
	})
	if err != nil {
		return nil, err
	}
	d := s.describeURL(c.r, u)
	return &sdk.CreateFunctionUrlConfigOutput{FunctionUrl: d.FunctionUrl, FunctionArn: d.FunctionArn, AuthType: d.AuthType, Cors: d.Cors,
		CreationTime: d.CreationTime, InvokeMode: types.InvokeMode(u.InvokeMode)}, nil
}

func (s *Server) updateURL(ctx context.Context, c *call, in *sdk.UpdateFunctionUrlConfigInput) (*sdk.UpdateFunctionUrlConfigOutput, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	u, err := s.cfg.Catalog.UpdateURL(ctx, idOf(ref), ref.Qualifier, func(u *catalog.URL) {
		if in.AuthType != "" {
			u.AuthType = string(in.AuthType)
		}
		if in.InvokeMode != "" {
			u.InvokeMode = string(in.InvokeMode)
		}
		if in.Cors != nil {
			u.CORS = corsOf(in.Cors)
		}
	})
	if err != nil {
		return nil, err
	}
	d := s.describeURL(c.r, u)
	return &sdk.UpdateFunctionUrlConfigOutput{FunctionUrl: d.FunctionUrl, FunctionArn: d.FunctionArn, AuthType: d.AuthType, Cors: d.Cors,
		CreationTime: d.CreationTime, LastModifiedTime: d.LastModifiedTime, InvokeMode: types.InvokeMode(u.InvokeMode)}, nil
}

func (s *Server) getURL(_ context.Context, c *call, in *sdk.GetFunctionUrlConfigInput) (*types.FunctionUrlConfig, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	u, ok := s.cfg.Catalog.URL(idOf(ref), ref.Qualifier)
	if !ok {
		return nil, catalog.NoSuchURL()
	}
	return s.describeURL(c.r, u), nil
}

func (s *Server) deleteURL(ctx context.Context, c *call, in *sdk.DeleteFunctionUrlConfigInput) (*none, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.DeleteURL(ctx, idOf(ref), ref.Qualifier)
}

func (s *Server) listURLs(_ context.Context, c *call, in *sdk.ListFunctionUrlConfigsInput) (*sdk.ListFunctionUrlConfigsOutput, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if _, ok := s.cfg.Catalog.Function(idOf(ref)); !ok {
		return nil, lambda.Errorf(lambda.ResourceNotFound, "Function does not exist")
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.URLs(idOf(ref), after, pageSize(in.MaxItems))
	out := &sdk.ListFunctionUrlConfigsOutput{FunctionUrlConfigs: []types.FunctionUrlConfig{}, NextMarker: markerOf(next)}
	for _, u := range list {
		out.FunctionUrlConfigs = append(out.FunctionUrlConfigs, *s.describeURL(c.r, u))
	}
	return out, nil
}

func (s *Server) describeURL(r *http.Request, u *catalog.URL) *types.FunctionUrlConfig {
	mode := types.InvokeMode(u.InvokeMode)
	if mode == "" {
		mode = types.InvokeModeBuffered
	}
	return &types.FunctionUrlConfig{
		AuthType:         types.FunctionUrlAuthType(u.AuthType),
		Cors:             describeCORS(u.CORS),
		CreationTime:     aws.String(u.Created.UTC().Format(urlTimeFormat)),
		FunctionArn:      aws.String(u.Ref(s.cfg.Catalog.Region()).ARN()),
		FunctionUrl:      aws.String(functionURL(r, u.ID, s.cfg.Catalog.Region())),
		InvokeMode:       mode,
		LastModifiedTime: aws.String(u.Modified.UTC().Format(urlTimeFormat)),
	}
}

// functionURL returns a URL under which the client that sent r reaches a function: on the host and port that it sent r to. For an
// address there can be no such name, and localhost, under which every name means this machine, stands for it.
func functionURL(r *http.Request, id, region string) string {
	scheme := "http"
	if r.TLS != nil || first(r.Header, "X-Forwarded-Proto") == "https" { // a proxy's word: only its own client hears of it
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, ""
	}
	if _, err := netip.ParseAddr(trimBrackets(host)); err == nil || host == "" {
		host = "localhost"
	}
	if port != "" {
		port = ":" + port
	}
	return scheme + "://" + id + functionurl.Infix + region + "." + host + port + "/"
}

func trimBrackets(host string) string {
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return host
}

func corsOf(in *types.Cors) *catalog.CORS {
	if in == nil {
		return nil
	}
	out := &catalog.CORS{AllowCredentials: in.AllowCredentials, AllowHeaders: in.AllowHeaders, AllowMethods: in.AllowMethods,
		AllowOrigins: in.AllowOrigins, ExposeHeaders: in.ExposeHeaders}
	if in.MaxAge != nil {
		seconds := int(*in.MaxAge)
		out.MaxAge = &seconds
	}
	return out
}

func describeCORS(c *catalog.CORS) *types.Cors {
	if c == nil {
		return nil
	}
	out := &types.Cors{AllowCredentials: c.AllowCredentials, AllowHeaders: c.AllowHeaders, AllowMethods: c.AllowMethods,
		AllowOrigins: c.AllowOrigins, ExposeHeaders: c.ExposeHeaders}
	if c.MaxAge != nil {
		out.MaxAge = aws.Int32(int32(*c.MaxAge))
	}
	return out
}
