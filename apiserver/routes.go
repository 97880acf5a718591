package apiserver

import (
	"context"
	"fmt"

	"berth/apimodel"
	"berth/lambda"
)

// handlers lists the operations that this server has built, by hand. Invoke is answered by serveInvoke.
func (s *Server) handlers() map[string]handler {
	return map[string]handler{
		"CreateFunction":              op(s, s.createFunction),
		"GetFunction":                 op(s, s.getFunction),
		"GetFunctionConfiguration":    op(s, s.getFunctionConfiguration),
		"ListFunctions":               op(s, s.listFunctions),
		"UpdateFunctionCode":          op(s, s.updateFunctionCode),
		"UpdateFunctionConfiguration": op(s, s.updateFunctionConfiguration),
		"DeleteFunction":              op(s, s.deleteFunction),

		"PublishVersion":         op(s, s.publishVersion),
		"ListVersionsByFunction": op(s, s.listVersions),

		"CreateAlias": op(s, s.createAlias),
		"GetAlias":    op(s, s.getAlias),
		"ListAliases": op(s, s.listAliases),
		"UpdateAlias": op(s, s.updateAlias),
		"DeleteAlias": op(s, s.deleteAlias),

		"TagResource":   op(s, s.tagResource),
		"ListTags":      op(s, s.listTags),
		"UntagResource": op(s, s.untagResource),

		"AddPermission":    op(s, s.addPermission),
		"GetPolicy":        op(s, s.getPolicy),
		"RemovePermission": op(s, s.removePermission),

		"GetAccountSettings":        op(s, s.getAccountSettings),
		"PutFunctionConcurrency":    op(s, s.putFunctionConcurrency),
		"GetFunctionConcurrency":    op(s, s.getFunctionConcurrency),
		"DeleteFunctionConcurrency": op(s, s.deleteFunctionConcurrency),

		"PutProvisionedConcurrencyConfig":    op(s, s.putProvisionedConcurrency),
		"GetProvisionedConcurrencyConfig":    op(s, s.getProvisionedConcurrency),
		"ListProvisionedConcurrencyConfigs":  op(s, s.listProvisionedConcurrency),
		"DeleteProvisionedConcurrencyConfig": op(s, s.deleteProvisionedConcurrency),

		"GetRuntimeManagementConfig": op(s, s.getRuntimeManagementConfig),

		"PutFunctionEventInvokeConfig":    op(s, s.putEventConfig),
		"UpdateFunctionEventInvokeConfig": op(s, s.updateEventConfig),
		"GetFunctionEventInvokeConfig":    op(s, s.getEventConfig),
		"ListFunctionEventInvokeConfigs":  op(s, s.listEventConfigs),
		"DeleteFunctionEventInvokeConfig": op(s, s.deleteEventConfig),

		"InvokeAsync":                s.serveInvokeAsync,
		"GetFunctionRecursionConfig": op(s, s.getFunctionRecursionConfig),
		"PutFunctionRecursionConfig": op(s, s.putFunctionRecursionConfig),

		"PublishLayerVersion":  op(s, s.publishLayerVersion),
		"ListLayers":           op(s, s.listLayers),
		"ListLayerVersions":    op(s, s.listLayerVersions),
		"GetLayerVersion":      op(s, s.getLayerVersion),
		"GetLayerVersionByArn": op(s, s.getLayerVersionByArn),
		"DeleteLayerVersion":   op(s, s.deleteLayerVersion),

		"AddLayerVersionPermission":    op(s, s.addLayerVersionPermission),
		"GetLayerVersionPolicy":        op(s, s.getLayerVersionPolicy),
		"RemoveLayerVersionPermission": op(s, s.removeLayerVersionPermission),

		"CreateEventSourceMapping": op(s, s.createMapping),
		"GetEventSourceMapping":    op(s, s.getMapping),
		"ListEventSourceMappings":  op(s, s.listMappings),
		"UpdateEventSourceMapping": op(s, s.updateMapping),
		"DeleteEventSourceMapping": op(s, s.deleteMapping),

		"CreateCodeSigningConfig":          op(s, s.createCodeSigning),
		"GetCodeSigningConfig":             op(s, s.getCodeSigning),
		"ListCodeSigningConfigs":           op(s, s.listCodeSignings),
		"UpdateCodeSigningConfig":          op(s, s.updateCodeSigning),
		"DeleteCodeSigningConfig":          op(s, s.deleteCodeSigning),
		"ListFunctionsByCodeSigningConfig": op(s, s.listFunctionsByCodeSigning),
		"GetFunctionCodeSigningConfig":     op(s, s.getFunctionCodeSigning),
		"PutFunctionCodeSigningConfig":     op(s, s.putFunctionCodeSigning),
		"DeleteFunctionCodeSigningConfig":  op(s, s.deleteFunctionCodeSigning),

		"CreateCapacityProvider":                 op(s, s.createCapacityProvider),
		"GetCapacityProvider":                    op(s, s.getCapacityProvider),
		"ListCapacityProviders":                  op(s, s.listCapacityProviders),
		"UpdateCapacityProvider":                 op(s, s.updateCapacityProvider),
		"DeleteCapacityProvider":                 op(s, s.deleteCapacityProvider),
		"ListFunctionVersionsByCapacityProvider": op(s, s.listCapacityProviderVersions),
		"GetFunctionScalingConfig":               op(s, s.getFunctionScaling),
		"PutFunctionScalingConfig":               op(s, s.putFunctionScaling),
	}
}

// routeTable gives each operation of the model its handler.
func (s *Server) routeTable() (map[*apimodel.Operation]handler, error) {
	built := s.handlers()
	table := make(map[*apimodel.Operation]handler)
	for _, o := range s.model.Operations() {
		h, ok := built[o.Name]
		if !ok {
			h = notBuilt
		}
		table[o] = h
		delete(built, o.Name)
	}
	for name := range built {
		return nil, fmt.Errorf("apiserver: the model has no operation %s", name)
	}
	return table, nil
}

// notBuilt answers for the operations of the API that Berth does not have yet.
func notBuilt(c *call) error {
	return lambda.Errorf(lambda.NotImplemented, "%s is not implemented by this server yet.", c.op.Name)
}

// none is the output of operations without one.
type none struct{}

// op makes a handler of a function on the SDK's structs. The handler asks the policies first.
func op[In, Out any](s *Server, f func(context.Context, *call, *In) (*Out, error)) handler {
	return func(c *call) error {
		in := new(In)
		if err := c.op.Decode(c.r, c.path, c.body, in); err != nil {
			return err
		}
		if err := s.permit(c, in); err != nil {
			return err
		}
		out, err := f(c.r.Context(), c, in)
		if err != nil {
			return err
		}
		if _, empty := any(out).(*none); empty {
			return c.op.Encode(c.w, nil)
		}
		return c.op.Encode(c.w, out)
	}
}
